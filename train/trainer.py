"""The training loop, in reading order: open, plan, build, resume, step, save, summarise.

Reads a config and a shard folder; writes below `run.out`: `step-NNNNNN/` (the newest checkpoint), `log.jsonl` (every
step) and what else journal.py names and, when all is done, `summary.json`. The folder is held before anything in it is
read. Killed anywhere and started again it continues from the newest checkpoint and ends with the same bits. A finished
run says so and does nothing.

One process on the CPU computes the packs of a step side by side on threads (distributed/gradient.py). Several, started
by torchrun, or a GPU share the model and the packs (distributed/sharded.py); the first of them prints, logs and holds
the folder. `world.agreed()` is around whatever may fail on one of them alone.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from train import checkpoint, log, metrics, placing, plan_report, run_folder, validation
from train.checkpoint import Record
from train.config import Config
from train.data import left_out, loader
from train.data import plan as planning
from train.data.collate import Pack
from train.data.folders import AnyShards, open_shards
from train.data.loader import Step
from train.data.plan import Plan, Position
from train.distributed import gradient, processes, sharded
from train.distributed.processes import World
from train.evaluate import during
from train.evaluate.during import Evaluation
from train.journal import Journal
from train.log import Line, Summary
from train.metrics import Meter, Told
from train.models import build, pretrained
from train.optim import optimiser, schedule
from train.run_folder import Keep
from train.saving import Saver
from train.validation import Validation


class TrainingError(RuntimeError):
    """Training can't go on: one line."""


def fit(config: Config, watch: Callable[[Line], None] | None = None) -> Summary:
    """Train to the end of the last epoch and return the summary. `watch` is called after every step."""
    out = Path(config.run.out)
    with processes.joined() as world, ExitStack() as held:
        with world.agreed():
            shards = open_shards(config.data.shards, config.data.leave_out)
            plan = make_plan(config, shards)
            if world.first:
                held.enter_context(run_folder.lock(out))
        run = Run(config, shards, plan, world)
        summary = world.told(log.read_summary(out / log.SUMMARY) if run.step == run.total else None)
        if summary:
            run.say(f"{run.folder}: all {run.total} steps are done; nothing to do")
            return summary
        if run.folder:
            run.say(f"continuing from {run.folder}")
        run.start()
        held.enter_context(closing(run.journal))
        show = held.enter_context(log.Show(run.total, config.run.log_every)) if world.first else None
        with run.pool, run.saver:
            for step in run.steps():
                line = run.advance(step)
                if show:
                    show(line)
                if run.step % config.run.checkpoint_every == 0 or run.step == run.total:
                    run.save()
                if watch:
                    watch(line)
        return run.summarise()


def make_plan(config: Config, shards: AnyShards) -> Plan:
    """Raises RecipeError where the schedule doesn't fit into its steps."""
    plan = planning.make(config.data, shards, *build.costs(config.model, shards.facts, config.optimiser))
    schedule.refuse_unfit(config.optimiser, plan.total)
    return plan


class Run:
    """Model, optimiser and position of one run; resumed from the newest checkpoint if there is one."""

    def __init__(self, config: Config, shards: AnyShards, plan: Plan, world: World) -> None:
        torch.set_num_threads(1)  # see distributed/gradient.py
        self.config, self.shards, self.plan, self.world = config, shards, plan, world
        self.out, self.total = Path(config.run.out), plan.total
        self.pool = ThreadPoolExecutor(config.run.threads, thread_name_prefix="pack")
        self.saver = Saver(self.out, shards.tokenizer, world, Keep(config.run.keep_last, config.run.keep_every))
        self.step, self.position = 0, Position(0, 0)
        self.folder: Path | None = None
        with world.agreed():
            placing.refuse_unfit(config, world)
            self.device = processes.device(config.run.device)
            placing.refuse_too_large(config, shards.facts, world, self.device)
            without = left_out.identity(config.data.leave_out)
            self.identity = checkpoint.identity(config, shards.identity, pretrained.identity(config.model), without)
            self.journal = Journal(config.run, world.first)
            self.validation = Validation(config, shards.facts, shards.identity) if config.run.validation else None
            self.evaluation = self._evaluation() if config.run.evaluate else None
            found = run_folder.newest(self.out) if world.first else None
        found = world.told(found)
        with world.agreed():
            self.model = placing.built(config, shards.facts)
            if not found:
                pretrained.load(self.model, config.model, shards.facts, shards.tokenizer)
        self.meter = Meter(self.model, config.model, shards.facts, self.device, world.count)
        self.sharded = placing.share(self.model, config, world, self.device)
        self.optimisers = optimiser.make(self.model, config.optimiser, self.pool, config.data.seed)
        with world.agreed():
            if found:
                self._resume(*found)
        self.lines: list[Line] = []
        self._first, self._since = 1, time.perf_counter()

    def say(self, text: str) -> None:
        if self.world.first:
            print(text, flush=True)

    def start(self) -> None:
        """Cut the log back to the checkpoint, and the clock runs."""
        with self.world.agreed():
            self.lines = self.journal.begin(self.step)
        if self.world.first and (lost := self.step - len(self.lines)):
            print(f"note: {self.out / log.LOG} lacks {lost:,} of {self.step:,} steps", file=sys.stderr, flush=True)
        self._first = self.step + 1
        self._since = time.perf_counter()

    def steps(self) -> Iterator[Step]:
        """What is left to do, each step when all ranks have their part of it."""
        world, pin = self.world, self.device.type == "cuda"
        left = loader.steps(self.shards, self.plan, self.position, world.rank, world.count, pin)
        return self.meter.waiting(world.together(left))

    def _resume(self, folder: Path, record: Record) -> None:
        checkpoint.refuse_other(folder, record.identity, self.identity)
        checkpoint.refuse_other(folder, {"plan": record.plan}, {"plan": self.plan.identity()})
        checkpoint.load(folder, self.model)
        checkpoint.load_optimisers(folder, self.model, self.optimisers)
        self.folder, self.step, self.position = folder, record.step, Position(record.epoch, record.epoch_step)

    def advance(self, step: Step) -> Line:
        """One optimiser step. The loss is the mean over the target tokens of the whole step, weighed."""
        epoch, weigh = self.position.epoch, self.config.optimiser.weigh
        self.model.step = self.step
        rate = schedule.set_rates(self.optimisers, self.config.optimiser, self.step, self.total)
        if self.sharded:
            loss, losses = sharded.accumulate(self.model, step, self.world, self.device, weigh)
        else:
            loss, losses = gradient.accumulate(self.model, step.packs, self.pool, weigh)
        told = list(chain.from_iterable(self.world.gathered(metrics.told(step.packs, losses))))
        norms = metrics.norms(self.model)
        norm = sharded.clip(self.model, self.config.optimiser.clip)
        self._refuse_nan(loss, norm, told)
        for each in self.optimisers:
            each.step()
        self.step, self.position = self.step + 1, step.after
        return self._log(
            step, told, epoch=epoch, loss=loss, gradient_norm=norm, gradient_norms=norms, learning_rate=rate
        )

    def _refuse_nan(self, loss: float, norm: float, told: Sequence[Told]) -> None:
        if not (math.isfinite(loss) and math.isfinite(norm)):
            with self.world.agreed():  # all have the same numbers, and one says so
                raise TrainingError(
                    f"step {self.step + 1}: the loss is {loss}, the gradient's norm {norm}; "
                    f"{self.journal.stopped(self.step + 1, told)}; lower optimiser.learning_rate or warm up longer; "
                    f"of a sample that is at fault, {left_out.CURE}"
                )

    def _log(self, step: Step, told: Sequence[Told], **known: Any) -> Line:
        measured = self.meter.measured(told, time.perf_counter() - self._since)  # with the wait for the loader
        known |= step.counts._asdict() | {"started": self.step == self._first}
        line = Line(step=self.step, **known, **measured)
        self.lines.append(line)
        self.saver.check()
        with self.world.agreed():
            self.journal.add(line, told)
        if self.validation and (self.step % self.validation.every == 0 or self.step == self.total):
            self._validate(self.validation)
        if self.evaluation and self.evaluation.due(self.step, self.total):
            self._evaluate(self.evaluation)
        self._since = time.perf_counter()
        return line

    def _validate(self, of: Validation) -> None:
        """On what nothing is learnt from; before the checkpoint of this step, so that none is left out."""
        found = of.measure(self.model, self._losses, self.world, self.step)
        with self.world.agreed():
            self.journal.validated(found)
        self.say(validation.describe(found))

    def _evaluation(self) -> Evaluation:
        shards = self.shards
        return Evaluation(self.config, shards.facts, shards.tokenizer, self.identity, self.world)

    def _evaluate(self, of: Evaluation) -> None:
        """Before the checkpoint of this step, like validation."""
        with self.world.agreed(), run_folder.writing(self.out):
            found = of.measure(self.model, self.step)
            self.journal.evaluated(found)
        self.say(during.describe(found))

    def _losses(self, packs: Sequence[Pack]) -> list[Tensor]:
        if self.sharded:
            return sharded.losses(self.model, packs, self.device)
        return gradient.losses(self.model, packs, self.pool)

    def save(self) -> None:
        plan = self.plan.identity()
        record = Record(self.identity, asdict(self.shards.facts), plan, self.step, *self.position)
        with self.world.agreed():
            self.journal.flush()
        self.saver.begin(record, checkpoint.parts(self.model, self.optimisers, self.world.rank))

    def summarise(self) -> Summary:
        counts = {"steps": self.total, **plan_report.counted(self.plan, self.shards)}
        parameters = sum(p.numel() for p in self.model.parameters())
        folder = self.saver.folder or self.folder
        summary = log.summarise(self.lines, counts, parameters, folder.name if folder else "")
        with self.world.agreed(), run_folder.writing(self.out):
            if self.world.first:
                log.write_summary(self.out / log.SUMMARY, summary)
        return summary
