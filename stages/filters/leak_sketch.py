"""What is kept of a benchmark to find its leaks by, in memory and in the files of `sketch-benchmarks`.

A row for each sample: its id, which benchmark it is of, what ingest found out about its images, and hashes of n-grams
of its texts. No text is in it, and no image file. Two things should be known by who gives such a file away: a hash can
be recognised by one who has the text, or guesses eight words in a row; and an image's luminance of 32 x 32 in grey,
which matches are proven by, is a tiny picture of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.sample import IMAGE_INFO
from stages.filters.leaked_text import ROUNDS, TextMatch, sketched

COLUMNS = ("sample_id", "source", "messages", "image_info")  # of a benchmark's samples
SKETCH = pa.schema(
    [("benchmark", pa.string()), ("sample_id", pa.string()), ("image_info", IMAGE_INFO), ("rounds", ROUNDS)]
)
_VERSION = "1"  # raise it when n-grams or rows come to mean something else
_NAME, _NGRAM = b"tessera.sketch", b"tessera.ngram"


def sketch(samples: pa.Table, text: TextMatch | None) -> pa.Table:
    """The samples of benchmarks (COLUMNS) as rows of SKETCH; without texts where these are not compared."""
    sources = samples["source"].cast(pa.string()).fill_null("")
    pieces = [_of_one(name, samples.filter(pc.equal(sources, name)), text) for name in sources.unique().to_pylist()]
    return pa.concat_tables([SKETCH.empty_table(), *pieces])


def _of_one(name: str, samples: pa.Table, text: TextMatch | None) -> pa.Table:
    rounds = (
        [[] for _ in range(len(samples))] if text is None else sketched(samples["messages"].to_pylist(), text.ngram)
    )
    columns = [[name] * len(samples), samples["sample_id"], samples["image_info"], pa.array(rounds, ROUNDS)]
    return pa.table(columns, schema=SKETCH)


def write(sketches: Iterable[pa.Table], text: TextMatch | None, path: Path) -> int:
    """A file of sketches, how many there are; the same rows give the same bytes."""
    about = {_NAME: _VERSION.encode(), _NGRAM: _words(text).encode()}
    rows = 0
    with pq.ParquetWriter(path, SKETCH.with_metadata(about), compression="zstd") as writer:
        for table in sketches:
            writer.write_table(table.replace_schema_metadata(about), row_group_size=4096)
            rows += len(table)
    return rows


def _words(text: TextMatch | None) -> str:
    return "no" if text is None else str(text.ngram)


def check(path: Path, text: TextMatch | None) -> None:
    """Raise ValueError for a file that is no sketch, or one whose n-grams are not those that are asked for."""
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: not a readable parquet file ({error}); fetch it again") from None
    about = schema.metadata or {}
    again = "make it with `sketch-benchmarks`"
    if _NAME not in about:
        raise ValueError(f"{path}: a parquet file, but no sketch of benchmarks; {again}")
    version = about[_NAME].decode("utf-8", "replace")
    if version != _VERSION or not schema.remove_metadata().equals(SKETCH):
        raise ValueError(f"{path}: a sketch of version {version}, wanted {_VERSION} with its columns; {again}")
    found = about.get(_NGRAM, b"").decode("utf-8", "replace")
    if text is not None and found != _words(text):
        raise ValueError(f"{path}: a sketch with {found} words to an n-gram, and text.ngram is {text.ngram}; {again}")


def read(paths: Iterable[Path], text: TextMatch | None) -> pa.Table:
    """The rows of several files, one after the other."""
    tables = [SKETCH.empty_table()]
    for path in paths:
        check(path, text)
        tables.append(pq.read_table(path).replace_schema_metadata())
    return pa.concat_tables(tables)
