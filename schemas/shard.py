"""SHARD: one pretokenised training sample; ROWS: the same without images; INDEX: lengths, all that the planner reads.

SHARD is Arrow IPC, uncompressed and memory-mappable, in record batches of few rows (stages/stage.py says how many);
shard_map.py says where each lies. The schema carries the features of `datasets`.

  subset, licence  as SAMPLE has them
  input_ids        image placeholders expanded: exactly what the model sees
  target_spans     half-open ranges of input_ids that bear loss
  label_changes    targets that are labelled as another token than they are: positions, in order, and the ids of labels
  images           the original bytes; the trainer cuts tiles from them by the stored grid
  image_sha256     of each image's bytes, in hex: proven when the image is read
  tiles            per image: its grid, its upright size, and the range of input_ids it owns: [start, start +
                   num_tokens), framing tokens included
  num_tokens       = num_text_tokens + num_image_tokens; num_target_tokens of them bear loss; num_tiles over all images
  scores           what the source rates, and the numbers of the filters' evidence as `<filter>.<column>`
  messages         what the ids were made of, if the recipe keeps it, else null

ROWS lies between the encoding of a part and the shard that its rows go to:

  sample           the row of the sample in its part
  image_numbers    which images of that sample the row has, in order: a piece of a cut conversation has its own
"""

from __future__ import annotations

import pyarrow as pa

from schemas import features
from schemas.sample import MESSAGES, SCORES

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

SHARD_IMAGES = pa.list_(features.IMAGE)

LABEL_CHANGES = pa.list_(pa.struct([("position", pa.int32()), ("id", pa.int32())]))

_NARROW = [
    ("sample_id", pa.string()),
    ("source", pa.string()),
    ("subset", pa.string()),
    ("licence", pa.string()),
    ("language", pa.string()),
    ("input_ids", pa.list_(pa.int32())),
    ("target_spans", pa.list_(pa.list_(pa.int32(), 2))),
    ("label_changes", LABEL_CHANGES),
    ("image_sha256", pa.list_(pa.string())),
    ("tiles", TILES),
    *[(name, pa.int32()) for name in COUNTS],
    ("scores", SCORES),
    ("messages", MESSAGES),
]

SHARD = features.with_features(pa.schema([*_NARROW, ("images", SHARD_IMAGES)]))

ROWS = pa.schema([*_NARROW, ("sample", pa.int32()), ("image_numbers", pa.list_(pa.int32()))])

MAY_BE_NULL = ("licence", "language", "messages")

INDEX = pa.schema(
    [
        ("sample_id", pa.string()),
        ("shard", pa.int32()),
        ("row", pa.int32()),
        ("source", pa.string()),
        ("subset", pa.string()),
        ("language", pa.string()),
        *[(name, pa.int32()) for name in COUNTS],
    ]
)
