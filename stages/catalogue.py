"""The pipeline's table of contents: every stage in running order, with its number, version and reasons.

01 download     folders, the Hub  -> list of files            one step per source
01 collect      addresses in rows -> packs + statuses         one step per source that has them
02 ingest       files             -> samples + rejects        one step per source
03 dedupe       samples           -> verdicts
04 decontaminate samples + benchmarks -> verdicts
05 language     samples           -> verdicts
06 quality      samples           -> verdicts
07 pretokenise  samples + verdicts -> shards
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stages import download, fetch_images, ingest, pretokenise
from stages.filters.decontaminate import DECONTAMINATE
from stages.filters.dedupe import DEDUPE
from stages.filters.language import LANGUAGE
from stages.filters.quality import QUALITY
from stages.stage import Filter

RAW = ("download", "collect")
FILTERS: dict[str, Filter] = {f.name: f for f in (DEDUPE, DECONTAMINATE, LANGUAGE, QUALITY)}


@dataclass(frozen=True)
class Entry:
    """A stage as the pipeline lists it."""

    number: int
    version: int
    reasons: Mapping[str, str]


def _table() -> dict[str, Entry]:
    stages: dict[str, tuple[int, Mapping[str, str]]] = {
        "download": (download.VERSION, download.REASONS),
        "ingest": (ingest.VERSION, ingest.REASONS),
        **{name: (f.version, f.reasons) for name, f in FILTERS.items()},
        "pretokenise": (pretokenise.VERSION, pretokenise.REASONS),
    }
    table = {name: Entry(number, *entry) for number, (name, entry) in enumerate(stages.items(), 1)}
    # collect belongs to download and shares its number: most recipes have none
    beside = {"collect": Entry(1, fetch_images.VERSION, fetch_images.REASONS)}
    return {"download": table["download"], **beside, **table}


STAGES: dict[str, Entry] = _table()
