"""Parts of jina-vlm's connector that do not depend on how weights are named: an export brings their very source.

Letters in names of shapes: N tiles, P patches along a side, Q pooled ones, m patches along a window, w width.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import pad, silu


class SwiGLU(nn.Module):
    """The gate is the second half of `up`."""

    def __init__(self, width: int, inner: int, out: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * inner, bias=False), nn.Linear(inner, out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.up(x).chunk(2, -1)
        out: Tensor = self.down(silu(gate) * value)
        return out


def windows(x_NPPw: Tensor, merge: int) -> Tensor:
    """Squares of patches, row by row: [N, P, P, w] -> [N * Q^2, m^2, w]; what lacks at the right and below is 0."""
    n, side, _, width = x_NPPw.shape
    lacking = -side % merge
    x = pad(x_NPPw, (0, 0, 0, lacking, 0, lacking))
    across = (side + lacking) // merge
    x = x.reshape(n, across, merge, across, merge, width).transpose(2, 3)
    return x.reshape(n * across**2, merge**2, width)
