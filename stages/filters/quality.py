"""Drop samples that teach nothing, and turns of them, by rules over numbers.

  rules/limits.py   what a recipe may set under `data.quality`, with units
  rules/table.py    the rules: measure, comparison, limit, reason
  rules/measure.py  messages and image_info -> the numbers: EVIDENCE
  rules/decide.py   numbers and limits -> verdicts

Every rule is off unless it can only hit broken rows (empty questions and answers, a conversation that ends without an
answer) or the recipe sets its limit. So the stage runs with its defaults unless the recipe says `quality: off`; there,
a question at the end stays, as context without loss. A question that is an image alone is not empty. Ratings are the
source's own (FineVision's, 1 to 5, of the row and of each turn); its authors found that thresholds on them never beat
the unfiltered set, so there is none by default.
"""

from __future__ import annotations

import pyarrow as pa

from stages.filters.rules.decide import decide
from stages.filters.rules.limits import QualityParams
from stages.filters.rules.measure import EVIDENCE, measured
from stages.filters.rules.table import REASONS, active
from stages.stage import Filter


def judge(table: pa.Table, params: QualityParams, loaded: None) -> tuple[list[str | None], pa.Table]:
    """Verdicts for the samples of one part; `table` has messages, image_info, scores, turn_scores."""
    asked = {name for _, rule, _ in active(params) for name in (rule.measure, rule.where)}
    evidence = measured(table, asked if params.evidence == "needed" else None)
    decision = decide(evidence, table, params)
    for name, values in (("kept_turns", decision.kept), ("removed_turns", decision.removed)):
        place = evidence.schema.get_field_index(name)
        evidence = evidence.set_column(place, EVIDENCE.field(name), pa.array(values, EVIDENCE.field(name).type))
    return decision.reasons, evidence


__all__ = ["QUALITY", "QualityParams", "judge"]

QUALITY = Filter(
    name="quality",
    version=3,
    params=QualityParams,
    reasons=REASONS,
    columns=("messages", "image_info", "scores", "turn_scores"),
    evidence=EVIDENCE,
    judge=judge,
    scores=lambda params: {"min_scores": params.min_scores},
    turn_scores=lambda params: {"turns.min_ratings": params.turns.min_ratings},
)
