"""The filters that judge a sample by itself, in running order."""

from __future__ import annotations

from stages.filters.decontaminate import DECONTAMINATE
from stages.filters.language import LANGUAGE
from stages.filters.quality import QUALITY
from stages.stage import Filter

FILTERS: dict[str, Filter] = {judge.name: judge for judge in (DECONTAMINATE, LANGUAGE, QUALITY)}
