"""Many answers at once: slots that are refilled as soon as they are free, while the others go on.

    waiting prompts -> one row of all that find a slot -> their first tokens      (prefill; one tower batch of tiles)
    slots in use    -> one token each, side by side    -> their next tokens       (decode)

Prompts are not padded, and a request's numbers do not depend on who is answered beside it, but for rounding. Slots in
use are the first ones: where one becomes free and nobody waits, the last one moves there. A row of prompts is bounded
by `ROW` tokens, so that neither the tower nor the decoder gets more than fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import accumulate
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from stages.tiles.scheme import Grid
from train.data import collate
from train.data.collate import Images
from train.data.shards import Facts
from train.inference.channels import Listener
from train.inference.choice import choose
from train.inference.conversation import Finish, Sampling
from train.inference.prompt import Prompt
from train.inference.slab import Slab
from train.models.vision_language import VisionLanguage

ROW = 16384  # tokens of prompts in one row, unless one alone has more


@dataclass
class Request:
    """`most`: tokens that its answer may have; `ends`: whether it ends with a token, of which it is told each once."""

    number: int
    prompt: Prompt
    sampling: Sampling
    most: int
    ends: Callable[[int], bool]
    listener: Listener | None = None
    tokens: list[int] = field(default_factory=list)

    @property
    def room(self) -> int:
        """Of a slot; the last token is not read again."""
        return len(self.prompt.ids) + self.most


class Told(NamedTuple):
    """A request got a token; `finish`: why it was its last one."""

    request: Request
    finish: Finish | None


class Queue(Protocol):
    """Who waits, in order."""

    def first(self, wait: bool) -> Request | None:
        """The next one, which stays; None if there is none, or none is ready and `wait` is false."""

    def take(self) -> None:
        """The next one leaves."""


class Engine:
    def __init__(self, model: VisionLanguage, facts: Facts, slots: int) -> None:
        self.model, self.facts = model, facts
        weight = next(model.language.parameters())
        self._device = weight.device
        self.slab = Slab(model.language.config, slots, weight.device, weight.dtype)
        self._slots: list[Request | None] = [None] * slots
        self._running = False

    def run(self, queue: Queue) -> Iterator[Told]:
        """Answer until nobody waits. One that is closed early leaves nobody behind."""
        if self._running:
            raise RuntimeError("answers of this model are under way; finish or close them first, or open it twice")
        self._running = True
        try:
            while told := self._step(queue):
                yield from told
        finally:
            self._slots, self._running = [None] * self.slab.slots, False

    @torch.inference_mode()
    def _step(self, queue: Queue) -> list[Told]:
        """One token for those who came, or else for everyone; nothing when all is done."""
        if admitted := self._admitted(queue):
            return self._prefilled(admitted)
        live = self._closed_up()
        return self._decoded(live) if live else []

    def _admitted(self, queue: Queue) -> dict[int, Request]:
        """Those who find a slot now, by slot; only who has nothing else to do waits for them."""
        found: dict[int, Request] = {}
        free = [slot for slot, request in enumerate(self._slots) if request is None]
        for slot in free:
            idle = len(free) == len(self._slots) and not found
            request = queue.first(wait=idle)
            row = sum(len(each.prompt.ids) for each in found.values())
            if request is None or (found and row + len(request.prompt.ids) > ROW):
                break
            queue.take()
            found[slot] = request
        return found

    def _closed_up(self) -> list[Request]:
        """Who is answered; in the first slots now."""
        for hole, request in enumerate(self._slots):
            if request is None:
                last = max((slot for slot, each in enumerate(self._slots) if each is not None), default=-1)
                if last < hole:
                    break
                self.slab.move(last, hole)
                self._slots[hole], self._slots[last] = self._slots[last], None
        return [request for request in self._slots if request is not None]

    def _prefilled(self, admitted: dict[int, Request]) -> list[Told]:
        prompts = [request.prompt for request in admitted.values()]
        lengths = [len(prompt.ids) for prompt in prompts]
        ids = np.concatenate([prompt.ids for prompt in prompts])
        self.slab.reserve(max(request.room for request in admitted.values()))
        self.slab.prompts([*admitted], lengths)
        images = self._brought(collate.placed(ids, _grids(prompts), _tiles(prompts), self.facts))
        row = self.model.embed(torch.from_numpy(ids)[None].to(self._device), images)
        positions = torch.cat([torch.arange(length) for length in lengths])[None].to(self._device)
        logits = self.model.next_logits(row, positions, [0, *accumulate(lengths)], self.slab)
        for slot, request in admitted.items():
            self._slots[slot] = request
        return self._told(logits, [*admitted.values()])

    def _decoded(self, live: list[Request]) -> list[Told]:
        positions = self.slab.tokens(len(live))
        last = [request.tokens[-1] for request in live]
        last += [0] * (len(positions) - len(last))
        row = self.model.embedding(torch.tensor([last], device=self._device))
        logits = self.model.next_logits(row, positions[None], [*range(len(last) + 1)], self.slab)
        return self._told(logits, live)

    def _told(self, logits: Tensor, requests: Sequence[Request]) -> list[Told]:
        """Everyone gets a token, and who is done leaves."""
        samplings = [request.sampling for request in requests]
        chosen = choose(logits[: len(requests)], samplings, [len(request.tokens) for request in requests])
        told = []
        for request, token in zip(requests, chosen, strict=True):
            request.tokens.append(token)
            finish: Finish | None = "length" if len(request.tokens) >= request.most else None
            told.append(Told(request, "stop" if request.ends(token) else finish))
        done = {id(each.request) for each in told if each.finish}
        self._slots = [None if id(request) in done else request for request in self._slots]
        return told

    def _brought(self, images: Images) -> Images:
        moved = {each.name: getattr(images, each.name).to(self._device) for each in fields(images)}
        return Images(**moved)


def _grids(prompts: Sequence[Prompt]) -> list[Grid]:
    return [grid for prompt in prompts for grid in prompt.grids]


def _tiles(prompts: Sequence[Prompt]) -> np.ndarray:
    return np.concatenate([prompt.tiles for prompt in prompts])
