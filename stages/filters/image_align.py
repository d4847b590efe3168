"""One picture laid over another: the crop and the change of light between them, and what is left.

The model is small, as light edits are: of each axis a scale and a shift (a crop of a few percent on any side), of the
light a gain and an offset, cut off at black and white. It is fitted by Gauss-Newton from "nothing changed", for many
pairs at once; pixels that fall outside, or are cut off, do not count. What is left over is then small everywhere for
the same picture, and large somewhere for another.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

Array = np.ndarray
_EDGE = 4.0  # levels from black and white within which a pixel may have been cut off
_SCALE, _SHIFT = (0.92, 1.087), (-0.04, 0.04)  # of a side; beyond, it is no crop of 3 % a side
_SLACK = 0.01  # of a side, by which a crop may seem to lie outside what it was cropped from
_STILL = np.array([1, 0, 1, 0], np.float32)
GAIN, OFFSET = (0.75, 1.34), (-52.0, 52.0)  # and beyond these no change of brightness or contrast by 20 %


class Fit(NamedTuple):
    """Of n pairs: float32 [n, 4] scale and shift of y, then of x (in sides, from the middle); [n, 2] gain, offset."""

    place: Array
    light: Array


def start(count: int) -> Fit:
    """Nothing changed."""
    return Fit(np.tile(_STILL, (count, 1)), np.tile(np.array([1, 0], np.float32), (count, 1)))


def fitted(a: Array, b: Array, fit: Fit, rounds: int) -> Fit:
    """The fit that makes float32 [n, h, w] `a` most like `b`, from `fit` on."""
    for _ in range(rounds):
        moved, inside = placed(a, fit.place)
        lit = moved * fit.light[:, :1, None] + fit.light[:, 1:, None]
        counts = inside & (lit > _EDGE) & (lit < 255 - _EDGE) & (b > _EDGE) & (b < 255 - _EDGE)
        rest = b - lit
        weight = counts / (1 + (rest / (4 + 2 * np.abs(rest).mean((1, 2), keepdims=True))) ** 2)
        fit = _step(fit, moved, rest, weight.astype(np.float32))
    return fit


def _step(fit: Fit, moved: Array, rest: Array, weight: Array) -> Fit:
    gain = fit.light[:, :1, None]
    dy, dx = np.gradient(moved, axis=(1, 2))
    y, x = _middle(moved.shape[1])[:, None], _middle(moved.shape[2])[None, :]
    dy, dx = dy * gain * moved.shape[1], dx * gain * moved.shape[2]
    slopes = np.stack([dy * y, dy, dx * x, dx, moved / 128, np.ones_like(moved)], 1).reshape(len(moved), 6, -1)
    weighted = slopes * weight.reshape(len(moved), 1, -1)
    normal = weighted @ slopes.transpose(0, 2, 1)
    normal += np.eye(6, dtype=np.float32) * (1e-3 * normal + 1e-3)
    step = np.linalg.solve(normal, weighted @ rest.reshape(len(moved), -1, 1))[..., 0]
    place = fit.place + step[:, :4]
    place = np.clip(place, *np.array([_SCALE, _SHIFT, _SCALE, _SHIFT]).T)
    gain, offset = (fit.light + step[:, 4:] * np.array([1 / 128, 1], np.float32)).T
    return Fit(place.astype(np.float32), light(gain, offset))


def light(gain: Array, offset: Array) -> Array:
    """The light of fits, held to what counts as a light edit."""
    return np.stack([np.clip(gain, *GAIN), np.clip(offset, *OFFSET)], 1).astype(np.float32)


def is_crop(fit: Fit) -> Array:
    """bool [n]: whether on each axis one picture lies within the other. A thing that moved on plain ground does not."""
    reach, shift = fit.place[:, ::2] / 2, np.abs(fit.place[:, 1::2])
    nested = (reach + shift <= 0.5 + _SLACK) | (reach - shift >= 0.5 - _SLACK)
    return np.asarray(nested.all(1))


def left_over(a: Array, b: Array, fit: Fit) -> tuple[Array, Array]:
    """What `b` is beside the fitted `a`, in levels, and which pixels can be compared."""
    moved, inside = placed(a, fit.place)
    shown = np.clip(moved * fit.light[:, :1, None] + fit.light[:, 1:, None], 0, 255)
    return np.where(inside, b - shown, 0).astype(np.float32), inside


def lit(a: Array, fit: Fit) -> Array:
    """`a` as the fit says that it looks in the other, cut off at black and white."""
    return np.asarray(np.clip(placed(a, fit.place)[0] * fit.light[:, :1, None] + fit.light[:, 1:, None], 0, 255))


def placed(a: Array, place: Array) -> tuple[Array, Array]:
    """`a` resampled (cubic), and which pixels lie inside it."""
    if (place == _STILL).all():
        return a, np.ones(a.shape, bool)
    rows, inside_y = resampling(a.shape[1], place[:, 0], place[:, 1])
    columns, inside_x = resampling(a.shape[2], place[:, 2], place[:, 3])
    return rows @ a @ columns.transpose(0, 2, 1), inside_y[:, :, None] & inside_x[:, None, :]


def _middle(side: int) -> Array:
    """Where the pixels of an axis lie, in sides from the middle."""
    return ((np.arange(side, dtype=np.float32) + 0.5) / side - 0.5).astype(np.float32)


def resampling(side: int, scale: Array, shift: Array) -> tuple[Array, Array]:
    """float32 [n, side, side]: what each pixel takes from each; bool [n, side]: whether it lies inside."""
    at = ((_middle(side) * scale[:, None] + shift[:, None] + 0.5) * side - 0.5).astype(np.float32)
    inside = (at > -0.75) & (at < side - 0.25)
    x = np.abs(np.clip(at, 0, side - 1)[:, :, None] - np.arange(side, dtype=np.float32))
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    weights = np.where(x < 1, near, np.where(x < 2, far, 0))
    return weights / weights.sum(2, keepdims=True), inside


def softened(a: Array) -> Array:
    """float32 [n, h, w] with each pixel a quarter of each neighbour on its axes' lines and half of itself."""
    rows = np.pad(a, ((0, 0), (1, 1), (0, 0)), mode="edge")
    a = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4
    columns = np.pad(a, ((0, 0), (0, 0), (1, 1)), mode="edge")
    return np.asarray((columns[:, :, :-2] + 2 * columns[:, :, 1:-1] + columns[:, :, 2:]) / 4)
