"""The keys and values of all requests that are being answered: a slab of slots, written by index.

    keys, values of each layer: [slots, length, K, D], zeros at first

A row of tokens is either prompts, end to end, each of which goes to a slot of its own, or one new token for each of
the first slots. Prompts attend to themselves alone (train/models/attention.py); a new token attends to all that its
slot holds. Where the kernel takes it (half precision on a GPU) every slot is computed at every step, so that shapes
stay the same; elsewhere those that are in use, up to the longest of them, what is beyond a slot's end being masked.

What a slot held before is never read: it lies beyond the slot's end until it is written over. It is zeros or numbers,
never uninitialised, for a kernel may read it and multiply it by 0.

Letters in names of shapes: S slots, T tokens of a row, L length of a slot, H query heads, K key/value heads, G query
heads of each of these, D width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention

from train.models.attention import in_one

_STEP = 256  # positions by which slots grow


class Slab:
    """For a decoder, by its config. `length` grows to what is asked of it."""

    def __init__(self, decoder: Any, slots: int, device: torch.device, dtype: torch.dtype) -> None:
        self.slots, self.length, self.used = slots, 0, [0] * slots
        width = getattr(decoder, "head_dim", None) or decoder.hidden_size // decoder.num_attention_heads
        self._shape = decoder.num_key_value_heads, width
        self._to: dict[str, Any] = {"device": device, "dtype": dtype}
        # Whether every step computes every slot, by the kernel
        self.fixed = in_one(torch.empty(0, 0, 0, width, device=device, dtype=dtype))
        self._keys, self._values = ([self._room() for _ in range(decoder.num_hidden_layers)] for _ in "kv")
        self._at, self._mask, self._held = torch.empty(0), torch.empty(0), torch.empty(0)
        self._new = 0  # slots that get a token of their own; 0: the row is prompts

    @property
    def nbytes(self) -> int:
        return sum(layer.nbytes for layer in (*self._keys, *self._values))

    def reserve(self, length: int) -> None:
        """Make slots at least so long; what they hold stays."""
        if length <= self.length:
            return
        before, self.length = self.length, -(-length // _STEP) * _STEP
        for layers in (self._keys, self._values):
            for number, old in enumerate(layers):
                layers[number] = self._room()
                layers[number][:, :before] = old

    def prompts(self, slots: Sequence[int], lengths: Sequence[int]) -> None:
        """The next row is these prompts."""
        pieces = [torch.arange(n) + slot * self.length for slot, n in zip(slots, lengths, strict=True)]
        self._at, self._new = torch.cat(pieces).to(self._to["device"]), 0
        for slot, n in zip(slots, lengths, strict=True):
            self.used[slot] = n

    def tokens(self, live: int) -> Tensor:
        """The next row is a token for each of the first slots; their positions are given back. Where all slots are
        computed there are more of them: what idle ones hold is of no matter."""
        self._new = self.slots if self.fixed else live
        self.used[live:] = [0] * (self.slots - live)
        positions = torch.tensor(self.used[: self._new])
        self._at = (torch.arange(self._new) * self.length + positions).to(self._to["device"])
        self.used[: self._new] = [n + 1 for n in self.used[: self._new]]
        if self.fixed:
            self._held = (positions + 1).to(self._to["device"], torch.int32)
        else:
            self._mask = _beyond(positions + 1).to(**self._to)
        return positions.to(self._to["device"])

    def move(self, source: int, target: int) -> None:
        """What a slot holds, to another one, which is lost."""
        n = self.used[target] = self.used[source]
        for layer in (*self._keys, *self._values):
            layer[target, :n] = layer[source, :n]
        self.used[source] = 0

    def write(self, layer: int, k_1KTD: Tensor, v_1KTD: Tensor) -> None:
        """Keep a row's keys and values."""
        for slab, new in ((self._keys[layer], k_1KTD), (self._values[layer], v_1KTD)):
            slab.view(-1, *self._shape).index_copy_(0, self._at, new[0].transpose(0, 1))

    def attend(self, layer: int, q_1HTD: Tensor, scaling: float | None) -> Tensor | None:
        """[1, T, H, D] for a row of new tokens; None for one of prompts, which see no more than themselves."""
        if not self._new:
            return None
        q_SHD = q_1HTD[0].transpose(0, 1)
        keys, values = self._keys[layer], self._values[layer]
        found = self._kernel if self.fixed else self._masked
        return found(q_SHD, keys[: self._new], values[: self._new], scaling)[None]

    def _masked(self, q_SHD: Tensor, k_SLKD: Tensor, v_SLKD: Tensor, scaling: float | None) -> Tensor:
        longest = self._mask.shape[-1]
        k, v = (x[:, :longest].transpose(1, 2) for x in (k_SLKD, v_SLKD))
        # The query heads that share a key are its queries
        q_SKGD = q_SHD.reshape(len(q_SHD), k.shape[1], -1, k.shape[-1])
        out = scaled_dot_product_attention(q_SKGD, k, v, attn_mask=self._mask, scale=scaling)
        return out.flatten(1, 2)

    def _kernel(self, q_SHD: Tensor, k_SLKD: Tensor, v_SLKD: Tensor, scaling: float | None) -> Tensor:
        """One split, for several give NaN now and then with slots that are not full."""
        ends = torch.arange(self._new + 1, device=q_SHD.device, dtype=torch.int32)
        k, v = (x.flatten(0, 1) for x in (k_SLKD, v_SLKD))
        out = varlen_attn(
            q_SHD.contiguous(),
            k,
            v,
            ends,
            ends * self.length,
            1,
            self.length,
            scale=scaling,
            enable_gqa=True,
            seqused_k=self._held,
            num_splits=1,
        )
        assert isinstance(out, Tensor)
        return out

    def _room(self) -> Tensor:
        return torch.zeros(self.slots, self.length, *self._shape, **self._to)


def _beyond(held_S: Tensor) -> Tensor:
    """[S, 1, 1, longest]: minus infinity where a slot holds nothing."""
    places = torch.arange(int(held_S.max()))
    empty = places >= held_S[:, None, None, None]
    return torch.zeros(empty.shape).masked_fill_(empty, -torch.inf)
