"""The table of stages, in running order: one row each, in a file of its own beside this one.

01 fetch_tokenizer the Hub       -> files                    where the recipe names one there
01 hash         a folder          -> list of files            one step per source that lies in one
01 download     the Hub, a bucket -> files + list of files    one step per source that lies there
01 fetch_images addresses in rows -> packs + statuses         one step per source that has them
02 ingest       files             -> samples + rejects        one step per source
03 compare      samples           -> pairs of duplicates
04 decontaminate samples + benchmarks -> verdicts
05 language     samples           -> verdicts
06 quality      samples           -> verdicts
07 dedupe       samples + pairs + verdicts -> verdicts
08 mixture      samples + verdicts -> verdicts
09 pretokenise  samples + verdicts -> shards
"""

from __future__ import annotations

from pipeline.graph.stage import Stage
from pipeline.steps.compare import COMPARE
from pipeline.steps.dedupe import DEDUPE
from pipeline.steps.download import DOWNLOAD
from pipeline.steps.fetch_images import FETCH_IMAGES
from pipeline.steps.fetch_tokenizer import FETCH_TOKENIZER
from pipeline.steps.filters import row
from pipeline.steps.hash_files import HASH
from pipeline.steps.ingest import INGEST
from pipeline.steps.mixture import MIXTURE
from pipeline.steps.pretokenise import PRETOKENISE
from stages.filters.table import FILTERS

_FILTERS = [row(judge, number) for number, judge in enumerate(FILTERS.values(), COMPARE.number + 1)]

_ROWS = (FETCH_TOKENIZER, HASH, DOWNLOAD, FETCH_IMAGES, INGEST, COMPARE, *_FILTERS, DEDUPE, MIXTURE, PRETOKENISE)
STAGES: dict[str, Stage] = {stage.name: stage for stage in _ROWS}
