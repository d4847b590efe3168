"""Where a model comes from, as far as its folder says: of a checkpoint the run's identity, of an export what that says.

Of the machine that it was made on nothing is told: no paths.
"""

from __future__ import annotations

import json
from typing import Any

from train import checkpoint
from train.inference.opened import EXPORTED, Opened


def told(of: Opened) -> dict[str, Any]:
    """What tessera.json and the card say of it."""
    if (of.folder / checkpoint.RECORD).is_file():
        record = checkpoint.read(of.folder)
        # `run`: what the weights were learnt by; of the model's section adapters are told here alone
        return {"run": {**record.identity, "step": record.step}}
    if (of.folder / EXPORTED).is_file():
        found = json.loads((of.folder / EXPORTED).read_text(encoding="utf-8"))
        return {"run": found["run"]} if "run" in found else {}
    return {}
