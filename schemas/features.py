"""Arrow schema -> the features of `datasets`: in a file's metadata, and in the front matter of a card.

With them `load_dataset` shows images as images; without, it would guess from the Arrow types, and images would be
structs of bytes. The names are those of its `Features.to_dict` and `Features._to_yaml_list`
(github.com/huggingface/datasets, src/datasets/features/features.py). Written by hand and not by `datasets`, which needs
no place in a run.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

# `datasets` knows an image by this very type: with 64-bit offsets, as in SAMPLE, it is a struct of bytes to it
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def with_features(schema: pa.Schema) -> pa.Schema:
    """The same schema, which says what its columns are to `datasets` and to the Hub's viewer."""
    features = {field.name: feature(field.type) for field in schema}
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}}, sort_keys=True)})


def yaml_features(schema: pa.Schema) -> list[dict[str, Any]]:
    """The same as a card says it."""
    return [{"name": field.name, **_in_yaml(field.type)} for field in schema]


def feature(kind: pa.DataType) -> dict[str, Any]:
    """One type."""
    if kind.equals(IMAGE):
        return {"_type": "Image"}
    if pa.types.is_fixed_size_list(kind):
        return {"_type": "List", "feature": feature(kind.value_type), "length": kind.list_size}
    if pa.types.is_list(kind):
        return {"_type": "List", "feature": feature(kind.value_type)}
    if pa.types.is_struct(kind):
        return {field.name: feature(field.type) for field in kind}
    return {"_type": "Value", "dtype": _dtype(kind)}


def _in_yaml(kind: pa.DataType) -> dict[str, Any]:
    if kind.equals(IMAGE):
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
