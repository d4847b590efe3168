"""Host, time, commit and versions of a step's run: what must never enter a manifest. Written as run.json."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any


def circumstances(started: float) -> dict[str, Any]:
    """What is written of a step that began at `started` (seconds since the epoch) and ends now."""
    here = Path(__file__).parent
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    return {
        "host": platform.node(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "pyarrow": version("pyarrow"),
        "pillow": version("pillow"),
        "commit": commit.stdout.strip() or None,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 3),
    }
