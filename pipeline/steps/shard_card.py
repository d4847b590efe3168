"""README.md of a shard folder: what lies there, for a person; and for `datasets`, which files are the data.

`load_dataset(FOLDER)` would otherwise take the most common kind of file for the data, which here are the verdicts.
Nothing of a dataset's text stands in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAME = "README.md"

_TEXT = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: shard-*.arrow
---
# Pretokenised image-text samples

{rows:,} rows in {shards:,} shards: {num_text_tokens:,} text + {num_image_tokens:,} image = {num_tokens:,} tokens, \
{num_target_tokens:,} of them targets; {num_tiles:,} tiles of the scheme `{scheme}`.

Made by the step `{name}`, {identity}. `manifest.json` names every file with its sha256; `python -m pipeline verify` \
proves them.

    import datasets
    rows = datasets.load_dataset("FOLDER", split="train")  # `images` are pictures

`input_ids` are exactly what the model sees, image tokens included; `target_spans` are the half-open ranges of them \
that bear loss; `tiles` says of each image its grid and its range of `input_ids`. The licence of each row stands in \
`licence`.
"""


def text(name: str, identity: str, shards: int, facts: Mapping[str, Any]) -> str:
    """The card of a finished step, from the facts of its manifest."""
    scheme, totals = facts["tiles"]["scheme"], facts["totals"]
    return _TEXT.format(name=name, identity=identity, shards=shards, rows=facts["rows"], scheme=scheme, **totals)
