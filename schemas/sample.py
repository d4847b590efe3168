"""SAMPLE: one image-text sample, and REJECT: one input row that could not become a sample.

The project's vocabulary, one word per thing:
  source     a named dataset in a recipe; subset: a named portion of it (a FineVision config)
  sample     one conversation with its images; the unit that is kept, dropped or rejected
  verdict    what a filter says about one sample: a reason to drop it, or none
  part       a numbered file of samples; verdict file k speaks of part k, row by row
  reject     an input row that never became a sample, with the reason
  tile       one square crop that the vision encoder sees; grid: rows x cols of them; thumbnail: whole image as a tile
  shard      a numbered file of pretokenised samples
  target     tokens that bear loss
  pack       samples laid end to end in one training sequence
  recipe     the YAML file that says all of it

Parquet. Text columns are zstd-compressed; image bytes are stored as they came (already compressed).

  sample_id          unique, stable, traceable: `source/file#row`
  source, subset     from the recipe and the adapter; licence: from the recipe or the row
  messages           the chat-template shape that the field reads; `type` is `text` or `image`, images in order;
                     `loss` is false for a turn that is context alone, else null
  images             original bytes; loads as the `datasets` Image feature
  image_info         size: bytes of the file; width and height AFTER EXIF orientation; mode as stored;
                     orientation: EXIF tag (1 = upright); phash: 64-bit perceptual hash; grey: the 32 x 32
                     luminance it is taken from, detail: sums of its cells at higher resolution, plain: its share
                     of one luminance (these three check matches: stages/images/hashes.py); frames: > 1 for
                     animations, of which the first frame counts
  scores             what the source rates (FineVision's ratings: `<name>_min`)
  turn_scores        what it rates turn by turn (FineVision's `<name>_ratings`): value k is of the k-th round, that is
                     question with answer; null where that one is not rated
  declared_language  what the source says, if it says
  references, choices, category  of a benchmark's question, by which answers are scored (schemas/benchmark.py): every
                     accepted answer, or with options the letters ("A", "B" ...) of those that are right; the options;
                     what the source files the question under. Null where there is none, and of all that is trained on
"""

from __future__ import annotations

import pyarrow as pa

LABEL = pa.dictionary(pa.int32(), pa.string())

BLOCK = pa.struct([("type", pa.string()), ("text", pa.string())])
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.list_(BLOCK)), ("loss", pa.bool_())]))
IMAGES = pa.list_(pa.struct([("bytes", pa.large_binary()), ("path", pa.string())]))

GREY_SIDE, DETAIL_SIDE = 32, 22
IMAGE_INFO = pa.list_(
    pa.struct(
        [
            ("sha256", pa.string()),
            ("size", pa.int64()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("format", pa.string()),
            ("mode", pa.string()),
            ("orientation", pa.int8()),
            ("frames", pa.int32()),
            ("phash", pa.uint64()),
            ("grey", pa.binary(GREY_SIDE * GREY_SIDE)),
            ("detail", pa.binary(2 * DETAIL_SIDE * DETAIL_SIDE)),
            ("plain", pa.uint8()),
        ]
    )
)

# A list and not a map: `datasets` has no type for Arrow's map and would refuse the file
SCORES = pa.list_(pa.struct([("name", pa.string()), ("value", pa.float32())]))
TURN_SCORES = pa.list_(pa.struct([("name", pa.string()), ("values", pa.list_(pa.float32()))]))

SAMPLE = pa.schema(
    [
        ("sample_id", pa.string()),
        ("source", LABEL),
        ("subset", LABEL),
        ("licence", LABEL),
        ("messages", MESSAGES),
        ("images", IMAGES),
        ("image_info", IMAGE_INFO),
        ("scores", SCORES),
        ("turn_scores", TURN_SCORES),
        ("declared_language", pa.string()),
        ("references", pa.list_(pa.string())),
        ("choices", pa.list_(pa.string())),
        ("category", pa.string()),
    ]
)

REJECT = pa.schema(
    [
        ("sample_id", pa.string()),
        ("source", pa.string()),
        ("file", pa.string()),
        ("row", pa.int64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)


def sample_id(source: str, file: str, row: int) -> str:
    """The stable, traceable name of a row: `source/file#row` (row is 0-based in its file)."""
    return f"{source}/{file}#{row}"
