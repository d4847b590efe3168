"""Arrow schema -> the features that `datasets` finds in a file, so that `load_dataset` shows images without a cast.

`datasets` reads them as JSON from the schema's metadata, key `huggingface`; without them it would guess from the Arrow
types, and images would be structs of bytes. The names are those of its `Features.to_dict`
(github.com/huggingface/datasets, src/datasets/features/features.py).
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

_IMAGE = {"bytes", "path"}
_NAMES = {"halffloat": "float16", "float": "float32", "double": "float64"}


def with_features(schema: pa.Schema) -> pa.Schema:
    """The same schema, which says what its columns are to `datasets`."""
    features = {field.name: feature(field.type) for field in schema}
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}}, sort_keys=True)})


def feature(kind: pa.DataType) -> dict[str, Any]:
    """One type as `datasets` writes it; a struct of `bytes` and `path` is an image."""
    if pa.types.is_dictionary(kind):
        return feature(kind.value_type)
    if pa.types.is_fixed_size_list(kind):
        return {"_type": "List", "feature": feature(kind.value_type), "length": kind.list_size}
    if pa.types.is_list(kind):
        return {"_type": "List", "feature": feature(kind.value_type)}
    if pa.types.is_struct(kind):
        if {field.name for field in kind} == _IMAGE:
            return {"_type": "Image"}
        return {field.name: feature(field.type) for field in kind}
    return {"_type": "Value", "dtype": _NAMES.get(str(kind), str(kind))}
