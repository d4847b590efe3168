"""The rules, one row each: which measure fails below or above which limit of the recipe, and what that is called.

A new rule is a row here, a limit in limits.py and, if nothing measures it yet, a row in measure.py. The order is one of
precedence: of several rules that fail, the first gives the reason. A rule of turns looks at each round (a question with
its answer) by itself; it drops the sample, or removes the round if the recipe lists its reason in `turns.remove`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Rule:
    """`measure` below (or above) the limit at `key` of the recipe's section fails; what can't be told passes.

    key    "" for a rule that is always on; true there means that nothing of it is allowed; a mapping: a limit by name
    fixed  the limit of a rule that is always on
    where  a measure that must be told, too, for the rule to look at a round
    """

    reason: str
    key: str
    measure: str
    fails: Literal["below", "above"]
    says: str
    of: Literal["turn", "sample"] = "turn"
    fixed: float | None = None
    where: str = ""

    def limit(self, params: Any) -> Any:
        """A number, numbers by name, or None where the recipe sets none."""
        if not self.key:
            return self.fixed
        value = functools.reduce(getattr, self.key.split("."), params)
        if isinstance(value, bool):
            return 0 if value else None
        return value if value != {} else None


def _of_text(side: str) -> tuple[Rule, ...]:
    """Limits that questions and answers have alike."""
    keys, whose = f"{side}s", f"a {side}" if side == "question" else f"an {side}"
    rows: tuple[tuple[str, str, str, Literal["below", "above"], str], ...] = (
        ("short_{}", "min_characters", "shortest_{}", "below", "is shorter than min_characters"),
        ("long_{}", "max_characters", "{}_characters", "above", "is longer than max_characters"),
        ("{}_lines_repeat", "max_repeated_lines", "{}_repeated_lines", "above", "repeats more of its lines"),
        ("{}_words_repeat", "max_repeated_words", "{}_repeated_words", "above", "repeats more runs of five words"),
        ("compressible_{}", "min_compression", "{}_compression", "below", "compresses to less than min_compression"),
        ("dense_{}", "max_compression", "{}_compression", "above", "compresses to more than max_compression"),
        ("{}_of_urls", "max_url_share", "{}_url_share", "above", "is URLs to a larger share"),
        ("{}_control_characters", "max_control_characters", "{}_control_characters", "above", "has control characters"),
        ("{}_mojibake", "max_mojibake", "{}_mojibake", "above", "has text that was read in a wrong encoding"),
    )
    return tuple(
        Rule(reason.format(side), f"{keys}.{key}", measure.format(side), fails, f"{whose} {says}")
        for reason, key, measure, fails, says in rows
    )


RULES: tuple[Rule, ...] = (
    Rule("empty_question", "", "shortest_question", "below", "a user turn says and shows nothing", fixed=1),
    Rule("empty_answer", "", "shortest_answer", "below", "an assistant turn says nothing", fixed=1),
    Rule("no_last_answer", "", "answered", "below", "the conversation does not end in an assistant turn", fixed=1),
    Rule("low_turn_rating", "turns.min_ratings", "turn_scores", "below", "the source rates a turn below a minimum"),
    Rule("out_of_order", "turns.alternating", "out_of_order", "above", "user and assistant don't take turns"),
    Rule("echo", "turns.no_echo", "echo", "above", "an answer is its question over again"),
    Rule("repeated_turn", "turns.no_copies", "copy", "above", "a turn was asked and answered before, word by word"),
    *_of_text("question"),
    *_of_text("answer"),
    Rule("refusal", "answers.no_refusals", "refusals", "above", "an answer refuses (rules/phrases.yaml)"),
    Rule("boilerplate", "answers.no_boilerplate", "boilerplate", "above", "an answer has boilerplate (phrases.yaml)"),
    Rule("few_kana", "japanese.min_kana_lines", "kana_lines", "below", "too few lines of a Japanese answer have kana"),
    Rule(
        *("long_sentences", "japanese.max_sentence_characters", "sentence_characters", "above"),
        says="the sentences of a Japanese answer are too long on average",
    ),
    Rule("ascii_run", "japanese.max_ascii_run", "ascii_run", "above", "a Japanese answer has a long run of ASCII"),
    Rule(
        *("compressible_japanese", "japanese.min_compression", "answer_compression", "below"),
        says="a Japanese answer compresses to less than japanese.min_compression",
        where="kana_lines",
    ),
    Rule(
        *("dense_japanese", "japanese.max_compression", "answer_compression", "above"),
        says="a Japanese answer compresses to more than japanese.max_compression",
        where="kana_lines",
    ),
    Rule("few_turns", "turns.min", "turns", "below", "fewer turns than turns.min", "sample"),
    Rule("many_turns", "turns.max", "turns", "above", "more turns than turns.max", "sample"),
    Rule("low_rating", "min_scores", "scores", "below", "the source rates it below a minimum of the recipe", "sample"),
    Rule(
        *("small_image", "min_image_side", "smallest_side", "below"),
        says="an image's shorter side is below min_image_side",
        of="sample",
    ),
    Rule(
        *("extreme_aspect", "max_aspect", "largest_aspect", "above"),
        says="an image is longer than max_aspect times its width, or wider than that",
        of="sample",
    ),
    Rule("few_pixels", "min_pixels", "fewest_pixels", "below", "an image has fewer than min_pixels", "sample"),
    Rule("many_pixels", "max_pixels", "most_pixels", "above", "an image has more than max_pixels", "sample"),
    Rule("uniform_image", "min_spread", "least_spread", "below", "an image is of nearly one colour", "sample"),
    Rule("short_text", "min_characters", "characters", "below", "less than min_characters of text", "sample"),
    Rule("long_text", "max_characters", "characters", "above", "more than max_characters of text", "sample"),
)

NO_TURN_LEFT = "no_turn_left"
REASONS = {**{rule.reason: rule.says for rule in RULES}, NO_TURN_LEFT: "each of its turns was removed"}
OF_TURNS = tuple(rule.reason for rule in RULES if rule.of == "turn")


def active(params: Any) -> list[tuple[int, Rule, Any]]:
    """The rules that a recipe has switched on: place in the table, rule, limit."""
    limits = ((place, rule, rule.limit(params)) for place, rule in enumerate(RULES))
    return [(place, rule, limit) for place, rule, limit in limits if limit is not None]
