"""The trainer's commands.

    python -m train plan CONFIG          steps, packs, mixture; estimates of memory and hours; nothing is trained
    python -m train fit CONFIG           train from shards; started again it continues, finished it does nothing
                                         (on N processes or GPUs: torchrun --nproc-per-node N -m train fit CONFIG)
    python -m train bench CONFIG         samples a second, utilisation and memory on made-up shards with random weights
    python -m train generate CONFIG ...  answer questions with the newest checkpoint of that config

Exit codes: 0 done; 1 the data or the run failed; 2 the config or the command line is wrong; 130 interrupted
(resumable).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import torch

from schemas.manifest import ManifestError
from schemas.strict import RecipeError
from stages.chat import ChatError
from stages.images.rules import BadImage
from train import checkpoint, config, log, plan_report, run_folder, trainer
from train.bench import corpora, measure
from train.checkpoint import CheckpointError
from train.config import Config
from train.data.collate import CollateError
from train.data.folders import open_shards
from train.data.packing import PlanError
from train.distributed import processes
from train.distributed.processes import Elsewhere, LostRank
from train.evaluate import questions
from train.evaluate.questions import QuestionError, Row
from train.generate import Answerer, PromptError
from train.models.family import ModelError
from train.models.lazy import WeightsError
from train.run_folder import OutputError
from train.trainer import TrainingError

_WRONG = (RecipeError, CheckpointError, PlanError, QuestionError, ModelError, WeightsError)
_FAILED = (ManifestError, CollateError, TrainingError, ChatError, BadImage, PromptError, OutputError, LostRank)


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        options = _parser().parse_args(arguments)
        options.command(options)
    except Elsewhere:
        return 1
    except (*_WRONG, *_FAILED) as error:
        print(f"error: {processes.speaker()}{error}", file=sys.stderr)
        return 2 if isinstance(error, _WRONG) else 1
    except torch.OutOfMemoryError as error:
        cure = "lower data.max_tokens_per_pack, set run.recompute to true, or share the model between more GPUs"
        print(f"error: {processes.speaker()}a GPU's memory is full ({_first(error)}); {cure}", file=sys.stderr)
        return 1
    except OSError as error:
        what = f"{error.filename or 'the system'}: {error.strerror or error}"
        print(f"error: {processes.speaker()}{what}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command continues from the newest checkpoint", file=sys.stderr)
        return 130
    return 0


def _first(error: Exception) -> str:
    """The first two sentences of an error, on one line."""
    return ". ".join(" ".join(str(error).split()).split(". ")[:2])


def fit(options: argparse.Namespace) -> None:
    with processes.joined() as world:
        with world.agreed():
            of = config.load(options.config)
        summary = trainer.fit(of)
        if world.first:
            print(f"{log.in_words(summary)}; {Path(of.run.out) / summary.checkpoint}")


def plan(options: argparse.Namespace) -> None:
    of = config.load(options.config)
    shards = open_shards(of.data.shards, of.data.leave_out)
    made = trainer.make_plan(of, shards)
    plan_report.show(plan_report.made(of, made, shards, options.tflops, options.mfu, options.ranks), options.json)


def bench(options: argparse.Namespace) -> None:
    of = config.load(options.config)
    like = options.like or measure.named_like(options.config)
    how = measure.Options(like, options.meta, options.sizes, options.steps, options.warm_up, options.samples)
    if found := measure.report(of, how):
        measure.show(found, options.json)


def generate(options: argparse.Namespace) -> None:
    of = config.load(options.config)
    folder = _newest(of)
    rows, base = _rows(options)
    out = options.out or Path(of.run.out) / "predictions.jsonl"
    questions.check_place(out)
    answers = Answerer(folder).answer([questions.prompt(row, base) for row in rows])
    scored = questions.score(rows, answers)
    summary = questions.summarise(scored) | {"checkpoint": folder.name}
    questions.show(scored, summary)
    beside = questions.write(out, scored, summary)
    print(f"answers: {out}; scores: {beside}")


def _newest(of: Config) -> Path:
    found = run_folder.newest(Path(of.run.out))
    if found is None:
        raise CheckpointError(f"{of.run.out}: no checkpoint; run `python -m train fit` with this config first")
    folder, record = found
    # The shards may be gone by now, and so the first weights, and answering does not read them.
    theirs = record.identity
    data = theirs["data"]
    ours = checkpoint.identity(of, data["shards"], theirs.get("weights"), data.get("leave_out"))
    checkpoint.refuse_other(folder, theirs, ours)
    return folder


def _rows(options: argparse.Namespace) -> tuple[list[Row], Path]:
    if options.questions:
        if options.image:
            raise QuestionError("--image goes with --question; the rows of --questions name their own images")
        return questions.read(options.questions, options.limit), options.questions.parent
    if not options.question:
        raise QuestionError(
            "nothing to answer: give --questions FILE.jsonl, or --question TEXT with or without --image"
        )
    return [{"image": [str(path) for path in options.image], "question": options.question}], Path()


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        raise RecipeError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    name = "tessera-train" if Path(sys.argv[0]).name == "tessera-train" else "python -m train"
    parser = _Parser(name, description="Train a vision-language model from shards, and ask it questions.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    texts = {
        plan: "what a config comes to, before anything is trained",
        fit: "train from shards",
        bench: "how fast it trains here, on made-up shards with random weights",
        generate: "answer questions with the newest checkpoint",
    }
    subs = {}
    for command, text in texts.items():
        sub = subs[command.__name__] = commands.add_parser(command.__name__, help=text)
        sub.add_argument("config", type=Path, metavar="CONFIG")
        sub.set_defaults(command=command)
    _of_plan(subs["plan"])
    _of_bench(subs["bench"])
    _of_generate(subs["generate"])
    return parser


def _of_plan(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--tflops", type=_above_zero, default=989.0, metavar="X", help="TFLOP/s of a device; default 989")
    sub.add_argument("--mfu", type=_above_zero, default=0.4, metavar="X", help="share of them in use; default 0.4")
    sub.add_argument("--ranks", type=_positive, default=1, metavar="N", help="devices; default 1")
    sub.add_argument("--json", action="store_true", help="everything as JSON")


def _of_bench(sub: argparse.ArgumentParser) -> None:
    names = [*corpora.CORPORA]
    sub.add_argument("--like", choices=names, help="the corpus whose lengths samples have; default: by CONFIG's name")
    sub.add_argument("--meta", action="store_true", help="run nothing: parameters, FLOPs, memory and floor alone")
    sub.add_argument(
        "--sizes", choices=("config", "tiny"), help="default: the config's; tiny where no GPU is to run it"
    )
    sub.add_argument("--steps", type=_positive, default=10, metavar="N", help="steps that are timed; default 10")
    sub.add_argument("--warm-up", type=_positive, default=3, metavar="N", help="steps before them; default 3")
    sub.add_argument("--samples", type=_positive, metavar="N", help="samples of a step; default: the config's")
    sub.add_argument("--json", action="store_true", help="everything as JSON")


def _of_generate(sub: argparse.ArgumentParser) -> None:
    what = sub.add_mutually_exclusive_group()
    what.add_argument("--questions", type=Path, metavar="FILE.jsonl", help="rows of image, question, answer?, kind?")
    what.add_argument("--question", metavar="TEXT", help="one question")
    sub.add_argument("--image", type=Path, action="append", default=[], help="an image of --question; may be repeated")
    sub.add_argument("--limit", type=_positive, metavar="N", help="only the first N questions")
    sub.add_argument("--out", type=Path, metavar="FILE", help="predictions; default: predictions.jsonl in run.out")


def _above_zero(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"got {text}, wanted more than 0")
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"got {number}, wanted at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
