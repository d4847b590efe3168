"""What the manifest of ingested samples says of a benchmark: how its answers are asked for and scored.

`facts["benchmark"]`: name, scoring, licence, and dataset and revision where it is from the Hub. The folder alone is
enough to evaluate a model on it. It is no part of the step's identity: a prompt that is mended changes no sample, so
the parts stay, the manifest is written anew, and nothing that was compared with the benchmark is done again.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from schemas import strict
from schemas.benchmark import Scoring
from schemas.manifest import MANIFEST, Manifest, ManifestError
from schemas.strict import RecipeError
from stages.sources.declaration import Source

FACT, PARAMETER = "benchmark", "scored"


def fact(step: Step, context: Context) -> dict[str, Any]:
    """The fact of a step that ingests a benchmark; nothing where answers aren't scored."""
    source: Source = step.params[0]
    if source.scoring is None:
        return {}
    hub = {"dataset": source.hub.dataset, "revision": context.content.commits[step.label]} if source.hub else {}
    return {FACT: {"name": step.label, "scoring": asdict(source.scoring), "licence": source.licence, **hub}}


def again(step: Step, manifest: Manifest, context: Context, asked: bool) -> str:
    """Due again where the manifest says another scoring than the recipe; all parts stay."""
    return "" if manifest.facts.get(FACT) == fact(step, context).get(FACT) else "its scoring has changed"


def told(folder: Path, manifest: Manifest) -> dict[str, Any]:
    """The fact as it is written, for no file of the folder gives it. Raises ManifestError where it is none."""
    if not manifest.parameters.get(PARAMETER):
        return {}
    said = manifest.facts.get(FACT)
    try:
        strict.build(Scoring, said.get("scoring") if isinstance(said, dict) else None, f"facts.{FACT}.scoring")
    except RecipeError as error:
        raise ManifestError(f"{folder / MANIFEST}: {error}; run its recipe again") from None
    return {FACT: said}
