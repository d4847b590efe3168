"""The log for TensorBoard: `run.tensorboard: true` writes event files below `run.out`.

A resumed run writes a new file that tells TensorBoard to forget what older ones say of later steps, so a curve has each
step once.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from schemas.strict import RecipeError
from train.evaluate.during import Evaluated
from train.log import Line
from train.validation import Validated

FOLDER = "tensorboard"


class Board:
    """Event files in a folder, from the step after `step` on."""

    def __init__(self, folder: Path, step: int) -> None:
        self._writer = _writer(folder, step + 1)

    def add(self, line: Line) -> None:
        for name, value in _scalars(line):
            self._writer.add_scalar(name, value, line.step)

    def validated(self, found: Validated) -> None:
        self._writer.add_scalar("validation/loss", found.loss, found.step)
        for name, value in found.loss_by_source.items():
            self._writer.add_scalar(f"validation by source/{name}", value, found.step)

    def evaluated(self, found: Evaluated) -> None:
        for name, score in found.scores.items():
            self._writer.add_scalar(f"evaluation/{name}", score, found.step)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def require() -> None:
    """Raise RecipeError unless TensorBoard's package is there."""
    if importlib.util.find_spec("tensorboard") is None:
        raise RecipeError(
            "run.tensorboard: the package is not installed; run `pip install tensorboard` or take the key out"
        )


def _writer(folder: Path, purge: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter  # the package is an extra of its own

    return SummaryWriter(str(folder), purge_step=purge)


def _scalars(line: Line) -> Iterator[tuple[str, float]]:
    yield "step/loss", line.loss
    yield "step/learning rate", line.learning_rate
    yield "step/gradient norm", line.gradient_norm
    yield "speed/tokens per second", line.tokens_per_second
    yield "speed/samples per second", line.samples_per_second
    yield "speed/share of time waited for data", line.waited / line.seconds
    yield "speed/memory in GiB", line.memory / 2**30
    if line.mfu is not None:
        yield "speed/MFU", line.mfu
    tables = {
        "loss by source": line.loss_by_source,
        "loss by language": line.loss_by_language,
        "gradient norm": line.gradient_norms,
    }
    for title, table in tables.items():
        for name, value in table.items():
            yield f"{title}/{name}", value
