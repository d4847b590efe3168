"""What a step tells of itself beside its loss: losses by source and language, norms by part, utilisation, memory, wait.

All of it is computed from one short record of each sample of the step (`Told`), so it adds up over packs and devices
however samples were dealt to them. A mean is over target tokens, each counted alike, whatever the loss is weighed by.
"""

from __future__ import annotations

import math
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from train.config import ModelConfig
from train.data.collate import Member, Pack
from train.data.shards import Facts
from train.distributed import sharded
from train.models import flops
from train.models.vision_language import VisionLanguage

T = TypeVar("T")

NO_LANGUAGE = "unknown"

# FLOP/s of dense bf16 products by device, as its maker states them; the first name that fits
_PEAKS = (
    ("B200", 2250e12),
    ("H200", 989e12),
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H100", 989e12),
    ("H800", 989e12),
    ("A100", 312e12),
    ("A800", 312e12),
)


class Told(NamedTuple):
    """A sample of a step; `loss` is the sum over its targets."""

    sample: Member
    loss: float

    @property
    def mean(self) -> float:
        return self.loss / max(1, self.sample.targets)

    def is_finite(self) -> bool:
        return math.isfinite(self.loss)


def told(packs: Sequence[Pack], losses: Sequence[Tensor]) -> list[Told]:
    """The samples of packs, from the losses of their target tokens; a pack may hold nothing but one without a name."""
    found: list[Told] = []
    for pack, losses_K in zip(packs, losses, strict=True):
        counts = [sample.targets for sample in pack.samples]
        sums = [float(own.sum()) for own in torch.split(losses_K.double().cpu(), counts)]
        found += map(Told, pack.samples, sums)
    return [each for each in found if each.sample.sample_id]


def means(of: Iterable[Told], key: Callable[[Member], str]) -> dict[str, float]:
    """Loss by what `key` says of a sample, in order of names; without those that have no targets."""
    sums: defaultdict[str, float] = defaultdict(float)
    counts: defaultdict[str, int] = defaultdict(int)
    for sample, loss in of:
        sums[key(sample)] += loss
        counts[key(sample)] += sample.targets
    return {name: sums[name] / counts[name] for name in sorted(sums) if counts[name]}


def by_source(of: Iterable[Told]) -> dict[str, float]:
    return means(of, lambda sample: sample.source)


def by_language(of: Iterable[Told]) -> dict[str, float]:
    return means(of, lambda sample: sample.language or NO_LANGUAGE)


def norms(model: nn.Module) -> dict[str, float]:
    """The norm of the gradient of each part, by how its parameters' names begin; parts without one are not in it."""
    found: defaultdict[str, list[Tensor]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            found[name.partition(".")[0]].append(parameter.grad)
    return {part: sharded.whole(get_total_norm(gradients)) for part, gradients in found.items()}


def peak(device: torch.device) -> float | None:
    """FLOP/s; None where they are not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((flops for known, flops in _PEAKS if known in name), None)


def memory(device: torch.device) -> int:
    """The most bytes so far: of the device, or of the process where that is the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


class Meter:
    """Measures the steps of one model; made before its parameters are spread over so many devices like this one."""

    def __init__(
        self, model: VisionLanguage, config: ModelConfig, facts: Facts, device: torch.device, devices: int
    ) -> None:
        self.device = device
        self.work = flops.training(model, config, facts)
        self.peak = peak(device)
        self.devices = devices
        self._waited = 0.0

    def waiting(self, steps: Iterator[T]) -> Iterator[T]:
        """The same steps; how long each was waited for is kept for its line."""
        while True:
            since = time.perf_counter()
            try:
                step = next(steps)
            except StopIteration:
                return
            self._waited = time.perf_counter() - since
            yield step

    def measured(self, of: Sequence[Told], seconds: float) -> dict[str, Any]:
        """The fields of a line that follow from the samples of a step and the time it took."""
        samples = [each.sample for each in of]
        lengths = [sample.tokens for sample in samples]
        targets, tiles = sum(sample.targets for sample in samples), sum(sample.tiles for sample in samples)
        work = sum(self.work.parts(lengths, targets, tiles).values())
        return {
            "seconds": seconds,
            "loss_by_source": by_source(of),
            "loss_by_language": by_language(of),
            "samples_per_second": len(samples) / seconds,
            "tokens_per_second": sum(lengths) / seconds,
            "mfu": work / (seconds * self.peak * self.devices) if self.peak else None,
            "waited": self._waited,
            "memory": memory(self.device),
        }
