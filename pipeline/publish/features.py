"""An Arrow schema as the features of `datasets`: in the files' metadata, and in the card's front matter.

Written by hand and not by `datasets`, which needs no place in a run. Lists of {bytes, path} are images.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from schemas.published import IMAGE_FEATURE


def with_features(schema: pa.Schema) -> pa.Schema:
    """The schema with the metadata that `datasets` and the Hub's viewer read."""
    features = {field.name: _feature(field.type) for field in schema}
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def yaml_features(schema: pa.Schema) -> list[dict[str, Any]]:
    """The same as the card says it."""
    return [{"name": field.name, **_in_yaml(field.type)} for field in schema]


def _feature(kind: pa.DataType) -> Any:
    if kind.equals(IMAGE_FEATURE):
        return {"_type": "Image"}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    return {"dtype": _dtype(kind), "_type": "Value"}


def _in_yaml(kind: pa.DataType) -> dict[str, Any]:
    if kind.equals(IMAGE_FEATURE):
        return {"dtype": "image"}
    if pa.types.is_list(kind):
        inner = _in_yaml(kind.value_type)
        return {"list": next(iter(inner.values())) if inner.keys() <= {"dtype", "struct"} else inner}
    if pa.types.is_struct(kind):
        return {"struct": [{"name": field.name, **_in_yaml(field.type)} for field in kind]}
    return {"dtype": _dtype(kind)}


def _dtype(kind: pa.DataType) -> str:
    """A type's name as `datasets` has it: Arrow's own, but for these two."""
    return {"float": "float32", "double": "float64"}.get(str(kind), str(kind))
