"""Scores on benchmarks while a model is trained: `run.evaluate`, by the runner that `evaluate` has.

Nothing of the run is changed by it. Its answers lie in `<run.out>/evaluation/step-000500/<benchmark>/`, its scores in
`evaluation.jsonl`, a line for each time. Where a run was killed it goes on with the answers that are there: a run that
goes on has the same weights after the same step.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.identity import fingerprint
from schemas.strict import RecipeError
from train import checkpoint
from train.config import Config
from train.data.shards import Facts
from train.distributed.processes import World
from train.evaluate import benchmark, in_memory, runner
from train.evaluate.runner import How
from train.models.vision_language import VisionLanguage

EVALUATION, FOLDER = "evaluation.jsonl", "evaluation"


@dataclass(frozen=True)
class Evaluated:
    """The scores after a step, by benchmark, and of how many questions; `failed` got no answer."""

    step: int
    scores: dict[str, float]
    questions: dict[str, int]
    failed: dict[str, int]
    seconds: float


class Evaluation:
    """The benchmarks of `run.evaluate`, found before the first step."""

    def __init__(
        self, config: Config, facts: Facts, tokenizer: Mapping[str, Path], identity: dict[str, Any], world: World
    ) -> None:
        """Raises RecipeError for what can't be evaluated in this run."""
        assert config.run.evaluate is not None
        self.config, self.facts, self.tokenizer, self.of = config, facts, tokenizer, config.run.evaluate
        self.identity = fingerprint(identity)
        if world.count > 1:
            raise RecipeError(
                f"run.evaluate: it is for one process, and here are {world.count}; take it out, and score the run's "
                "checkpoints with `python -m train evaluate` (run.keep_every keeps them)"
            )
        self.benchmarks = benchmark.find([Path(place) for place in self.of.benchmarks])
        if judged := [one.name for one in self.benchmarks if one.scoring.metric == "judge"]:
            raise RecipeError(
                f"run.evaluate: {judged[0]} has no score without a judge; name the folders of the other benchmarks"
            )

    def due(self, step: int, last: int) -> bool:
        return step % self.of.every == 0 or step == last

    def measure(self, model: VisionLanguage, step: int) -> Evaluated:
        """The scores of a model as it is after so many steps."""
        since, name = time.perf_counter(), checkpoint.name(step)
        answers = in_memory.answering(model, self.config, self.facts, self.tokenizer)
        whose = {"name": f"{Path(self.config.run.out).name}/{name}", "content": self.identity}
        out = Path(self.config.run.out) / FOLDER / name
        how = How(self.of.limit)
        found = [runner.evaluate(lambda: answers, whose, one, out, how).summary for one in self.benchmarks]
        return Evaluated(
            step=step,
            scores={each["benchmark"]: each["score"] for each in found},
            questions={each["benchmark"]: each["n"] for each in found},
            failed={each["benchmark"]: each["failed"] for each in found if each["failed"]},
            seconds=time.perf_counter() - since,
        )


def describe(found: Evaluated) -> str:
    """As one line."""
    scores = ", ".join(f"{name} {score:.1%} of {found.questions[name]:,}" for name, score in found.scores.items())
    failed = f", {sum(found.failed.values()):,} failed" if found.failed else ""
    return f"evaluation after step {found.step}: {scores}{failed} in {found.seconds:,.1f} s"
