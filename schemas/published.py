"""PUBLISHED: a kept sample as others read it, in the parquet files of a published folder.

A row is a whole sample, with what was decided about it. `datasets` shows `images` as images; a recipe of ours reads a
published folder as a source of the shape `messages` as `as_source` says.

A row of one assistant turn and no question is a document, to be learned as it is; `is_document` says so to a reader who
can't know that. `evidence` has a struct for each filter of the recipe that measures, and is missing where none does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from schemas import features
from schemas.sample import MESSAGES, SCORES
from schemas.shard import COUNTS

LANGUAGE = "language"
# In leaf columns of these names few words recur
REPEATED = ("source", "subset", "licence", LANGUAGE, "declared_language", "role", "type", "name", "last_role")

MANIFEST = "tessera.json"
CARD, RECIPE, DATA = "README.md", "recipe.yaml", "data"

_IMAGE_INFO = pa.struct([("sha256", pa.string()), ("width", pa.int32()), ("height", pa.int32())])
EVIDENCE = "evidence"

PUBLISHED = pa.schema(
    [
        ("sample_id", pa.string()),
        ("source", pa.string()),
        ("subset", pa.string()),
        ("licence", pa.string()),
        ("messages", MESSAGES),
        ("images", pa.list_(features.IMAGE)),
        ("is_document", pa.bool_()),
        ("image_info", pa.list_(_IMAGE_INFO)),
        ("scores", SCORES),
        ("declared_language", pa.string()),
        (LANGUAGE, pa.string()),
        *[(name, pa.int32()) for name in COUNTS],
    ]
)

TOLD = {
    "sample_id": "where the row comes from: `source/file#row`",
    "source": "the dataset it comes from",
    "subset": "a named portion of it",
    "licence": "the row's own, or its source's",
    "messages": "turns of text and places of images; `loss: false` marks a turn that is context alone",
    "images": "the original bytes",
    "is_document": "true for a text to be learned as it is, without a question",
    "image_info": "sha256 of each image's bytes, and its size when it is upright (EXIF)",
    "scores": "what the source rates",
    "declared_language": "what the source says of its language",
    LANGUAGE: "what was detected, or else declared",
    "evidence": "what the filters measured",
    "num_tokens": "of the whole conversation, under the model recipe below",
    "num_text_tokens": "of its text and layout",
    "num_image_tokens": "of its images",
    "num_target_tokens": "that bear loss",
    "num_tiles": "over all images",
}

_READ = ("messages", "images", "is_document", LANGUAGE, "licence", "scores")


def as_source(columns: Iterable[str]) -> dict[str, Any]:
    """What a recipe says of a published folder as a source, beside its shape and files: nothing of these is unread."""
    there = set(columns)
    return {"scores": ["scores"], "ignore": [name for name in TOLD if name in there and name not in _READ]}


def with_evidence(kinds: dict[str, pa.Schema]) -> pa.Schema:
    """PUBLISHED with the evidence of these filters."""
    if not kinds:
        return PUBLISHED
    evidence = pa.struct([(name, pa.struct(list(schema))) for name, schema in kinds.items()])
    return PUBLISHED.append(pa.field(EVIDENCE, evidence))
