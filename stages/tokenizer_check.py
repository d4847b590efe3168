"""Whether a tokenizer folder can be used, asked in a process of its own.

Whoever asks doesn't load a tokenizer's library to know, which takes a second and more memory than all else that a run's
driver holds; and a file that makes the library abort ends that process alone.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas import strict
from stages.chat_rules import ChatRules

SECONDS = 120


@functools.lru_cache(maxsize=64)
def refusal(folder: str, content: str, given: str) -> str:
    """Why a folder of this content can't be used; "" if it can. `given`: `tokens` and `chat` of a recipe, as JSON."""
    ours = str(Path(__file__).parent.parent)
    places = [ours, *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "stages.tokenizer_check", folder, given],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"{folder}: reading it as a tokenizer does not come to an end in {SECONDS} s; get its files again"
    last = done.stdout.rpartition("\n")[2]
    if done.returncode or not last:
        how = f"its library ended with code {done.returncode}"
        return f"{folder}: can't be read as a tokenizer ({how}); {_end_of(done.stderr)}"
    return str(json.loads(last))


def _end_of(said: str) -> str:
    lines = said.strip().splitlines()
    return f"it said: {lines[-1][:200]}" if lines else "get its files again"


def _found(folder: str, given: Mapping[str, Any]) -> str:
    from stages.chat import ChatError, ChatFormat, ImageTokens

    try:
        ChatFormat.load(folder, ImageTokens(**given["tokens"]), strict.build(ChatRules, given["chat"]))
    except ChatError as error:
        return " ".join(str(error).split())
    return ""


if __name__ == "__main__":
    print("\n" + json.dumps(_found(sys.argv[1], json.loads(sys.argv[2]))), end="")
