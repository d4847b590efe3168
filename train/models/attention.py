"""Causal attention inside each sample of a pack, and never across samples.

A pack is one flat row of tokens; `cu_seq_lens_q` = [0, end of sample 0, end of sample 1, ...] says where its samples
end. The row is cut there and every piece attends to itself alone, so isolation is plain to see, costs no T x T mask
and grows linearly with the pack. On a GPU, in half precision, one kernel does all samples at once (`varlen_attn`); it
reads `ends`, the same numbers as int32 on the device, so the host waits for nothing. The pieces are its oracle, and
what a CPU and float32 compute. The default way of the transformers library (guess the pack from restarting
`position_ids`) is silently lost when any 2-D mask is passed or a cache is made; this one depends on neither, because
it builds no mask at all.

The name is registered as an attention and not as a mask: transformers then makes no mask and drops one that is passed
without a word. So `guard` looks at every call of a decoder before it begins.

Who answers keeps the keys and values of a row (`kept`, train/inference/slab.py), and has a token of an answer attend
to what was kept of its request. Without `cu_seq_lens_q` it is ordinary causal attention.

Letters in names of shapes: B rows, H query heads, K key/value heads, T tokens, D width of a head.
"""

from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

VARLEN = "tessera_varlen"
_WIDEST = 256  # of a head, for the kernel; and it wants a multiple of 8


class Kept(Protocol):
    """Keys and values of earlier rows."""

    def write(self, layer: int, k_1KTD: Tensor, v_1KTD: Tensor) -> None:
        """Keep those of a row."""

    def attend(self, layer: int, q_1HTD: Tensor, scaling: float | None) -> Tensor | None:
        """What the row gets of all that was kept: [1, T, H, D]; None where it attends to itself alone."""


def varlen_attention(
    module: nn.Module,
    q_BHTD: Tensor,
    k_BKTD: Tensor,
    v_BKTD: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    cu_seq_lens_q: list[int] | None = None,
    ends: Tensor | None = None,
    kept: Kept | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """The signature is the one transformers calls; the result is [B, T, H, D]."""
    if attention_mask is not None:
        raise ValueError("varlen attention got an attention_mask, wanted None: packs are kept apart by cu_seq_lens_q")
    if kept is not None:
        layer: Any = module.layer_idx
        kept.write(layer, k_BKTD, v_BKTD)
        if (found := kept.attend(layer, q_BHTD, scaling)) is not None:
            return found, None
    if cu_seq_lens_q is not None and ends is not None and in_one(q_BHTD):
        return _all_at_once(q_BHTD, k_BKTD, v_BKTD, cu_seq_lens_q, ends, scaling), None
    heads_per_key = q_BHTD.shape[1] // k_BKTD.shape[1]
    k_BHTD = k_BKTD.repeat_interleave(heads_per_key, dim=1)
    v_BHTD = v_BKTD.repeat_interleave(heads_per_key, dim=1)
    if cu_seq_lens_q is None:
        causal = q_BHTD.shape[2] > 1  # one query over a cache sees every key
        out_BHTD = scaled_dot_product_attention(q_BHTD, k_BHTD, v_BHTD, is_causal=causal, scale=scaling)
        return out_BHTD.transpose(1, 2), None
    lengths = [end - start for start, end in pairwise(cu_seq_lens_q)]
    samples = zip(*(torch.split(x, lengths, dim=2) for x in (q_BHTD, k_BHTD, v_BHTD)), strict=True)
    pieces = [scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling) for q, k, v in samples]
    return torch.cat(pieces, dim=2).transpose(1, 2), None


def in_one(q_BHTD: Tensor) -> bool:
    """Whether the kernel takes such a pack."""
    width = q_BHTD.shape[-1]
    half = q_BHTD.dtype in (torch.bfloat16, torch.float16)
    return half and q_BHTD.device.type in ("cuda", "meta") and width <= _WIDEST and width % 8 == 0


def _all_at_once(
    q_1HTD: Tensor, k_1KTD: Tensor, v_1KTD: Tensor, bounds: list[int], ends: Tensor, scaling: float | None
) -> Tensor:
    q, k, v = (x.squeeze(0).transpose(0, 1) for x in (q_1HTD, k_1KTD, v_1KTD))
    longest = max(end - start for start, end in pairwise(bounds))
    out_THD = varlen_attn(q, k, v, ends, ends, longest, longest, scale=scaling, window_size=(-1, 0), enable_gqa=True)
    assert isinstance(out_THD, Tensor)
    return out_THD.unsqueeze(0)


def guard(decoder: nn.Module) -> None:
    """Have every call of a decoder refused that would mix samples or whose mask would be dropped."""
    decoder.register_forward_pre_hook(_refuse, with_kwargs=True)


def _refuse(_: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> None:
    if given.get("attention_mask") is not None:
        raise ValueError("the decoder got an attention_mask, wanted None: packs are kept apart by cu_seq_lens_q")
    if given.get("position_ids") is not None and given.get("cu_seq_lens_q") is None:
        raise ValueError("the decoder got position_ids of a pack without cu_seq_lens_q, which keeps its samples apart")


AttentionInterface.register(VARLEN, varlen_attention)
