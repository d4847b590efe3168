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
from stages.filters.rules.measure import EVIDENCE, OF_TURNS, measured
from stages.filters.rules.table import REASONS, active
from stages.stage import Again, Filter


def judge(table: pa.Table, params: QualityParams, loaded: None) -> tuple[list[str | None], pa.Table]:
    """Verdicts for the samples of one part; `table` has messages, image_info, scores, turn_scores."""
    evidence = measured(table, _asked(params) if params.evidence == "needed" else None)
    decision = decide(evidence, table, params)
    for name, values in (("kept_turns", decision.kept), ("removed_turns", decision.removed)):
        place = evidence.schema.get_field_index(name)
        evidence = evidence.set_column(place, EVIDENCE.field(name), pa.array(values, EVIDENCE.field(name).type))
    return decision.reasons, evidence


def judge_again(
    verdict: pa.Table, rated: pa.Table, params: QualityParams
) -> tuple[list[str | None], list[list[int] | None]]:
    """Reasons and kept turns under other limits, of what was measured."""
    decision = decide(verdict, rated, params)
    return decision.reasons, decision.kept


def refuse(before: QualityParams, after: QualityParams) -> str:
    """The limit on what was not measured when the stage ran."""
    if before.evidence == "all":
        return ""
    there = _asked(before)
    for _, rule, _ in active(after):
        for name in (rule.measure, rule.where):
            if name in OF_TURNS and OF_TURNS[name].slow and name not in there:
                return f"{rule.key} was off when it ran; run with evidence: all, or run the filter again"
    return ""


def _asked(params: QualityParams) -> set[str]:
    """The measures that the rules of a recipe compare."""
    return {name for _, rule, _ in active(params) for name in (rule.measure, rule.where)}


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
    again=Again(judge_again, refuse, ("scores", "turn_scores")),
)
