"""How much a picture varies, from what ingest keeps of it: the one place that knows in which column that stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def spread(info: Mapping[str, Any]) -> float | None:
    """Standard deviation of an image's luminance, in levels of 0 to 255; None where nothing is kept to tell it by.

    Of the picture reduced to 32 x 32: a page with a line of small text varies by some levels, an empty one by none.
    """
    grey = info.get("grey")
    return float(np.frombuffer(grey, np.uint8).std()) if grey else None
