"""SHARD: one pretokenised training sample; INDEX: its lengths, everything the planner reads.

SHARD is Arrow IPC, uncompressed and memory-mappable, in record batches of few rows (stages/stage.py says how many);
shard_map.py says where each lies.

  input_ids      image placeholders expanded: exactly what the model sees
  target_spans   half-open ranges of input_ids that bear loss
  label_changes  targets that are labelled as another token than they are: positions, in order, and the ids of labels
  images         the original bytes; the trainer cuts tiles from them by the stored grid
  image_sha256   of each image's bytes, in hex: proven when the image is read
  tiles          per image: its grid, its upright size, and the range of input_ids it owns: [start, start + num_tokens),
                 framing tokens included
  num_tokens     = num_text_tokens + num_image_tokens; num_target_tokens of them bear loss; num_tiles over all images
"""

from __future__ import annotations

import pyarrow as pa

from schemas.sample import IMAGES

COUNTS = ("num_tokens", "num_text_tokens", "num_image_tokens", "num_target_tokens", "num_tiles")

TILES = pa.list_(
    pa.struct(
        [
            ("scheme", pa.string()),
            ("rows", pa.int16()),
            ("cols", pa.int16()),
            ("thumbnail", pa.bool_()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("start", pa.int32()),
            ("num_tokens", pa.int32()),
        ]
    )
)

LABEL_CHANGES = pa.list_(pa.struct([("position", pa.int32()), ("id", pa.int32())]))

SHARD = pa.schema(
    [
        ("sample_id", pa.string()),
        ("source", pa.string()),
        ("language", pa.string()),
        ("input_ids", pa.list_(pa.int32())),
        ("target_spans", pa.list_(pa.list_(pa.int32(), 2))),
        ("label_changes", LABEL_CHANGES),
        ("images", IMAGES),
        ("image_sha256", pa.list_(pa.string())),
        ("tiles", TILES),
        *[(name, pa.int32()) for name in COUNTS],
    ]
)

INDEX = pa.schema(
    [
        ("sample_id", pa.string()),
        ("shard", pa.int32()),
        ("row", pa.int32()),
        ("source", pa.string()),
        ("language", pa.string()),
        *[(name, pa.int32()) for name in COUNTS],
    ]
)
