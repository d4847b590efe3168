"""What is drawn by chance, as a function of a key: the same numbers for a resumed run, on any number of threads.

torch's own generator is one for all threads, so what a pack draws from it would depend on the other packs. Here each
draw has a generator of its own, whose seed is a hash of its key. In a forward pass the step and the pack are part of
it: `of_pack` says so before the pass begins. A layer that is computed again in the backward pass, maybe on another
thread, draws what it drew before (`again`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

import torch

Key = tuple[int, ...]

_PACK: ContextVar[Key | None] = ContextVar("pack", default=None)


def generator(device: torch.device, *key: object) -> torch.Generator:
    """Of a key such as the run's seed, the step and the name of a parameter."""
    return torch.Generator(device).manual_seed(number(*key))


def number(*key: object) -> int:
    """Of a key: 63 bits of a hash."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def of_pack(key: Key) -> None:
    """What is drawn on this thread from now on is of a pack."""
    _PACK.set(key)


def pack() -> Key:
    """The key of the pack that is being computed."""
    key = _PACK.get()
    if key is None:
        raise RuntimeError("something is drawn by chance outside of a model's forward pass; call the model itself")
    return key


def again() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """For torch's checkpoint: around the first computation of a layer, and around the second."""
    return nullcontext(), _during(_PACK.get())


@contextmanager
def _during(key: Key | None) -> Iterator[None]:
    before = _PACK.set(key)
    try:
        yield
    finally:
        _PACK.reset(before)
