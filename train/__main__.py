"""The trainer's commands.

    python -m train plan CONFIG          steps, packs, mixture; estimates of memory and hours; nothing is trained
    python -m train fit CONFIG           train from shards; started again it continues, finished it does nothing
                                         (on N processes or GPUs: torchrun --nproc-per-node N -m train fit CONFIG)
    python -m train bench CONFIG         samples a second, utilisation and memory on made-up shards with random weights
    python -m train generate MODEL ...   answer one question, a file of conversations, or a person who chats
    python -m train evaluate MODEL ...   score a model on ingested benchmarks
    python -m train compare RUN_A RUN_B  two evaluations on the same questions
    python -m train export MODEL ...     write it as a folder that plain transformers loads

Exit codes: 0 done; 1 the data or the run failed; 2 the config or the command line is wrong; 130 interrupted (the line
says whether the same command goes on).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch

from schemas.manifest import ManifestError
from schemas.strict import RecipeError
from stages.chat import ChatError
from stages.images.rules import BadImage
from train.checkpoint import CheckpointError
from train.commands import bench, compare, evaluate, export, fit, generate, plan
from train.data.collate import CollateError
from train.data.packing import PlanError
from train.distributed import processes
from train.distributed.processes import Elsewhere, LostRank
from train.evaluate.summary import EvaluationError
from train.export.failure import ExportError
from train.inference.batch import BatchError
from train.inference.errors import OpenError, PromptError
from train.models.family import ModelError
from train.models.lazy import WeightsError
from train.run_folder import OutputError
from train.trainer import TrainingError

_COMMANDS = (plan, fit, bench, generate, evaluate, compare, export)
_WRONG = (
    RecipeError,
    CheckpointError,
    PlanError,
    ModelError,
    WeightsError,
    OpenError,
    ExportError,
    BatchError,
)
_FAILED = (
    ManifestError,
    CollateError,
    TrainingError,
    ChatError,
    BadImage,
    PromptError,
    OutputError,
    LostRank,
    EvaluationError,
)
_GOES_ON = {
    "fit": "; the same command continues from the newest checkpoint",
    "evaluate": "; the same command goes on after the answers that are written",
}


def main(arguments: Sequence[str] | None = None) -> int:
    options = argparse.Namespace()
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
        print(f"interrupted{_goes_on(options)}", file=sys.stderr)
        return 130
    return 0


def _goes_on(options: argparse.Namespace) -> str:
    """What the same command does next time; of one that begins anew, nothing."""
    words = vars(options)
    writes_answers = words.get("conversations") is not None
    return _GOES_ON.get("evaluate" if writes_answers else words.get("name", ""), "")


def _first(error: Exception) -> str:
    """The first two sentences of an error, on one line."""
    return ". ".join(" ".join(str(error).split()).split(". ")[:2])


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, like all others, and whose optional word may stand after options."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, rest = self.parse_known_args(args, namespace)
        if len(rest) == 1 and not rest[0].startswith("-") and vars(options).get("question", "") is None:
            options.question, rest = rest[0], []
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return options

    def error(self, message: str) -> NoReturn:
        raise RecipeError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    program = "tessera-train" if Path(sys.argv[0]).name == "tessera-train" else "python -m train"
    parser = _Parser(program, description="Train a vision-language model from shards, and ask it questions.")
    subs = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    for command in _COMMANDS:
        text = (command.__doc__ or "").splitlines()[0]
        word = command.__name__.rpartition(".")[2]
        sub = subs.add_parser(word, help=text)
        command.arguments(sub)
        sub.set_defaults(command=command.run, name=word)
    return parser


if __name__ == "__main__":
    sys.exit(main())
