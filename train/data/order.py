"""Keyed permutations, and the orders of an epoch that are made of them. Pure: no files, no global RNG.

A permutation sorts by the 64-bit words of a Philox generator whose key is a sha256. The words are the generator's
definition, so an order is the same on every machine and with every version of numpy.

Grouped orders exist to do as published systems did; the packs make neither faster.

    length    HF's LengthGroupedSampler: of each 50 batches the longest samples first, the longest of all at the front
    modality  LLaVA's group_by_modality_length: a batch has images or is text alone; what is left over of both comes
              last. That system also sorts within a batch, for its devices; here the packs do that.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np

Grouping = Literal["length", "modality"]
_MEGABATCH = 50  # batches


def permutation(count: int, key: str) -> np.ndarray:
    """A permutation of range(count), keyed by a text."""
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:16]
    words = np.random.Philox(key=int.from_bytes(digest, "little")).random_raw(count)
    return np.argsort(words, kind="stable")


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of all samples in an epoch."""
    return permutation(count, f"tessera order {seed} {epoch}")


def pass_order(count: int, seed: int, number: int, source: str) -> np.ndarray:
    """The order of a source's samples in one pass over it."""
    return permutation(count, f"tessera pass {seed} {number} {source}")


def by_length(order: np.ndarray, lengths: np.ndarray, batch: int) -> np.ndarray:
    """Sorted from long to short within runs of up to 50 batches; the longest of all changes places with the first."""
    run = max(1, min(len(order) // (4 * batch), _MEGABATCH)) * batch
    found = np.concatenate(
        [part[np.argsort(-lengths[part], kind="stable")] for part in np.split(order, range(run, len(order), run))]
    )
    longest = int(lengths[found[::run]].argmax()) * run
    found[[0, longest]] = found[[longest, 0]]
    return found


def by_modality(order: np.ndarray, has_image: np.ndarray, batch: int, seed: int, epoch: int) -> np.ndarray:
    """Batches of one kind in any order, then the last batch of each kind as one, by index."""
    kinds = [order[has_image[order]], order[~has_image[order]]]
    if not all(map(len, kinds)):
        return order
    whole = [(len(kind) - 1) // batch * batch for kind in kinds]
    batches = np.concatenate([kind[:end].reshape(-1, batch) for kind, end in zip(kinds, whole, strict=True)])
    batches = batches[permutation(len(batches), f"tessera batches {seed} {epoch}")]
    rest = np.concatenate([kind[end:] for kind, end in zip(kinds, whole, strict=True)])
    return np.concatenate([batches.ravel(), np.sort(rest)])
