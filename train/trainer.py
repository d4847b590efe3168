"""The training loop, in reading order: open, plan, build, resume, step, save, summarise.

Reads a config and a shard folder; writes below `run.out`: `step-NNNNNN/` (the newest checkpoint), `log.jsonl` (every
step) and, when all is done, `summary.json`. The folder is held before anything in it is read. Killed anywhere and
started again it continues from the newest checkpoint and ends with the same bits. A finished run says so and does
nothing.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import torch
from torch.nn.utils import clip_grad_norm_

from train import checkpoint, log, plan_report, run_folder
from train.checkpoint import Record
from train.config import Config
from train.data import loader
from train.data import plan as planning
from train.data.folders import AnyShards, open_shards
from train.data.loader import Step
from train.data.plan import Plan, Position
from train.distributed import gradient
from train.log import Line, Summary
from train.models import build, parts, precision, pretrained
from train.optim import optimiser, schedule


class TrainingError(RuntimeError):
    """Training can't go on: one line."""


def fit(config: Config, watch: Callable[[Line], None] | None = None) -> Summary:
    """Train to the end of the last epoch and return the summary. `watch` is called after every step."""
    out = Path(config.run.out)
    shards = open_shards(config.data.shards)
    plan = make_plan(config, shards)
    with run_folder.lock(out):
        run = Run(config, shards, plan)
        summary = log.read_summary(out / log.SUMMARY) if run.step == run.total else None
        if summary:
            print(f"{run.folder}: all {run.total} steps are done; nothing to do")
            return summary
        if run.folder:
            print(f"continuing from {run.folder}", flush=True)
        run.start()
        with run.pool, log.Show(run.total, config.run.log_every) as show:
            for step in loader.steps(shards, plan, run.position):
                line = run.advance(step)
                show(line)
                if run.step % config.run.checkpoint_every == 0 or run.step == run.total:
                    run.save()
                if watch:
                    watch(line)
        return run.summarise()


def make_plan(config: Config, shards: AnyShards) -> Plan:
    return planning.make(config.data, shards, *build.costs(config.model, shards.facts, config.optimiser))


class Run:
    """Model, optimiser and position of one run; resumed from the newest checkpoint if there is one."""

    def __init__(self, config: Config, shards: AnyShards, plan: Plan) -> None:
        torch.set_num_threads(1)  # see distributed/gradient.py
        self.pool = ThreadPoolExecutor(config.run.threads, thread_name_prefix="pack")
        self.config, self.shards, self.plan = config, shards, plan
        self.out = Path(config.run.out)
        self.identity = checkpoint.identity(config, shards.identity, pretrained.identity(config.model))
        self.model = build.build(config.model, shards.facts).train()
        parts.freeze(self.model, config.optimiser)
        if config.run.recompute:
            self.model.checkpoint_activations()
        precision.set_dtypes(self.model, config.optimiser)
        if config.optimiser.compute != config.optimiser.states:
            precision.autocast(self.model)
        self.optimisers = optimiser.make(self.model, config.optimiser, self.pool, config.data.seed)
        self.step, self.position = 0, Position(0, 0)
        self.total = plan.total
        self.folder: Path | None = None
        if found := run_folder.newest(self.out):
            self._resume(*found)
        else:
            pretrained.load(self.model, config.model, shards.facts)
        self.lines: list[Line] = []
        self._first, self._since = 1, time.perf_counter()

    def start(self) -> None:
        """Cut the log back to the checkpoint, and the clock runs."""
        with run_folder.writing(self.out):
            self.lines = log.cut(self.out / log.LOG, self.step)
        if lost := self.step - len(self.lines):
            print(f"note: {self.out / log.LOG} lacks {lost:,} of {self.step:,} steps", file=sys.stderr, flush=True)
        self._first = self.step + 1
        self._since = time.perf_counter()

    def _resume(self, folder: Path, record: Record) -> None:
        checkpoint.refuse_other(folder, record.identity, self.identity)
        checkpoint.refuse_other(folder, {"plan": record.plan}, {"plan": self.plan.identity()})
        checkpoint.load(folder, self.model)
        checkpoint.load_optimisers(folder, self.model, self.optimisers)
        self.folder, self.step, self.position = folder, record.step, Position(record.epoch, record.epoch_step)

    def advance(self, step: Step) -> Line:
        """One optimiser step. The loss is the sum over all packs divided by the target tokens of the whole step."""
        epoch = self.position.epoch
        self.model.step = self.step
        rate = schedule.set_rates(self.optimisers, self.config.optimiser, self.step, self.total)
        loss = gradient.accumulate(self.model, step.packs, self.pool)
        norm = float(clip_grad_norm_(self.model.parameters(), self.config.optimiser.clip))
        self._refuse_nan(loss, norm)
        for each in self.optimisers:
            each.step()
        self.step, self.position = self.step + 1, step.after
        return self._log(step, epoch, loss, norm, rate)

    def _refuse_nan(self, loss: float, norm: float) -> None:
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingError(
                f"step {self.step + 1}: the loss is {loss}, the gradient's norm {norm}; lower optimiser.learning_rate "
                "or warm up longer"
            )

    def _log(self, step: Step, epoch: int, loss: float, norm: float, rate: float) -> Line:
        packs, now = step.packs, time.perf_counter()
        line = Line(
            step=self.step,
            epoch=epoch,
            loss=loss,
            gradient_norm=norm,
            learning_rate=rate,
            samples=step.num_samples,
            tokens=sum(pack.sample_ends[-1] for pack in packs),
            targets=sum(pack.num_targets for pack in packs),
            tiles=sum(len(pack.tiles) for pack in packs),
            packs=len(packs),
            seconds=now - self._since,  # with the wait for the loader
            started=self.step == self._first,
        )
        self._since = now
        self.lines.append(line)
        with run_folder.writing(self.out):
            log.append(self.out / log.LOG, line)
        return line

    def save(self) -> None:
        plan = self.plan.identity()
        record = Record(self.identity, asdict(self.shards.facts), plan, self.step, *self.position)
        with run_folder.writing(self.out):
            checkpoint.flush(self.out / log.LOG)  # never behind the checkpoint, not even after a power cut
        self.folder = run_folder.save(self.out, record, self.model, self.optimisers, self.shards.tokenizer)

    def summarise(self) -> Summary:
        counts = {"steps": self.total, **plan_report.counted(self.plan, self.shards)}
        parameters = sum(p.numel() for p in self.model.parameters())
        summary = log.summarise(self.lines, counts, parameters, self.folder.name if self.folder else "")
        with run_folder.writing(self.out):
            log.write_summary(self.out / log.SUMMARY, summary)
        return summary
