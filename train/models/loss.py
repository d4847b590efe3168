"""The losses of target tokens: head and cross entropy, a chunk of rows at a time.

The head is in what the model computes in (`optimiser.compute`), the cross entropy in float32 or finer.

What is kept for the backward pass are the rows that go into the head; the logits of a chunk, which are as wide as the
vocabulary, are computed once more there. So memory is bounded by the chunk and not by the number of targets. Targets
that fit into one chunk are computed once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

CHUNK = 2048  # rows: large enough that the head's weights are not what is waited for


def target_losses(head: Callable[[Tensor], Tensor], hidden_Kd: Tensor, labels_K: Tensor, chunk: int = CHUNK) -> Tensor:
    """The cross entropy of each target: [K], float32 or finer."""
    if len(labels_K) <= chunk:
        return _losses(head, hidden_Kd, labels_K)
    parts = [
        checkpoint(_losses, head, *rows, use_reentrant=False, preserve_rng_state=False)  # a head draws nothing
        for rows in zip(torch.split(hidden_Kd, chunk), torch.split(labels_K, chunk), strict=True)
    ]
    return torch.cat(parts)


def _losses(head: Callable[[Tensor], Tensor], hidden_Kd: Tensor, labels_K: Tensor) -> Tensor:
    logits = head(hidden_Kd)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return cross_entropy(logits, labels_K, reduction="none")
