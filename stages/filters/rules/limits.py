"""What a recipe may say under `data.quality`: limits, each with its unit. None means no limit.

Nothing is limited by default but what can only be a broken row. Lengths are in characters of Unicode; a limit in tokens
is `pretokenise.max_tokens`, because only there a tokenizer is known. A turn is a round: a question with its answer.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from schemas.strict import unknown
from stages.filters.rules.table import OF_TURNS

_SHARES = ("max_repeated_lines", "max_repeated_words", "max_url_share", "min_kana_lines")


@dataclass(frozen=True)
class TurnRules:
    """Of turns.

    min, max      how many stay (a sample whose turns are all removed is dropped anyway)
    min_ratings   least rating of each turn by the name of its list, such as {relevance_ratings: 3}
    alternating   each turn is a question with one answer, and a system turn stands first
    no_echo       no answer is its question over again
    no_copies     no turn repeats question and answer of an earlier one about the same images
    remove        reasons of rules that remove the turn that fails, and keep the rest of the sample; or `all` of them
    """

    min: int = 1
    max: int | None = None
    min_ratings: dict[str, float] = field(default_factory=dict)
    alternating: bool = False
    no_echo: bool = False
    no_copies: bool = False
    remove: tuple[str, ...] | Literal["all"] = ()

    def __post_init__(self) -> None:
        for reason in self.remove if self.remove != "all" else ():
            if reason not in OF_TURNS:
                raise ValueError(unknown("remove", reason, OF_TURNS).replace("unknown key", "no rule of turns"))

    @property
    def removing(self) -> frozenset[str]:
        return frozenset(OF_TURNS if self.remove == "all" else self.remove)


@dataclass(frozen=True)
class TextRules:
    """Of each question, or of each answer.

    min_characters, max_characters    length without white space around it
    max_repeated_lines                share (0 to 1) of its lines that stood before in it
    max_repeated_words                share of its runs of five words that stood before; a kanji is a word
    min_compression, max_compression  bytes after zlib as a share of those before; text of a few words is above 1
    max_url_share                     share of its characters that stand in URLs
    max_control_characters            how many; U+FFFD counts, tab and line break don't
    max_mojibake                      places that were read in a wrong encoding, such as `Ã©`
    """

    min_characters: int | None = None
    max_characters: int | None = None
    max_repeated_lines: float | None = None
    max_repeated_words: float | None = None
    min_compression: float | None = None
    max_compression: float | None = None
    max_url_share: float | None = None
    max_control_characters: int | None = None
    max_mojibake: int | None = None


@dataclass(frozen=True)
class AnswerRules(TextRules):
    """Of each answer, beside the limits of any text: no refusal, no boilerplate (rules/phrases.yaml)."""

    no_refusals: bool = False
    no_boilerplate: bool = False


@dataclass(frozen=True)
class JapaneseRules:
    """Of answers with kana: what LLM-jp's corpus v1 asks of Japanese pages, as limits instead of edits.

    min_kana_lines                    share of lines that have kana (there: lines without are cut away)
    max_sentence_characters           mean length of its sentences (there: 250, strictly 80)
    max_ascii_run                     longest run of ASCII (there: 100 and more are cut away)
    min_compression, max_compression  as of any text (there: 0.30, strictly 0.375, to 0.70)
    """

    min_kana_lines: float | None = None
    max_sentence_characters: float | None = None
    max_ascii_run: int | None = None
    min_compression: float | None = None
    max_compression: float | None = None


@dataclass(frozen=True)
class QualityParams:
    """Of a sample, and the sections of its turns.

    min_scores                      least rating by the source, by name: {relevance_min: 2}
    min_image_side                  pixels of the shorter side of each image
    max_aspect                      longer side over shorter side of each image
    min_pixels, max_pixels          width times height of each image
    min_spread                      least deviation of each image's luminance, in levels of 255: 0 is one flat colour
    min_characters, max_characters  text of all turns that stay, with the system's
    evidence                        `all` measures what no rule of the recipe asks for, too
    """

    min_scores: dict[str, float] = field(default_factory=dict)
    min_image_side: int = 1
    max_aspect: float | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    min_spread: float | None = None
    min_characters: int | None = None
    max_characters: int | None = None
    turns: TurnRules = field(default_factory=TurnRules)
    questions: TextRules = field(default_factory=TextRules)
    answers: AnswerRules = field(default_factory=AnswerRules)
    japanese: JapaneseRules = field(default_factory=JapaneseRules)
    evidence: Literal["needed", "all"] = "needed"

    def __post_init__(self) -> None:
        _check("", asdict(self))


def _check(where: str, section: dict[str, Any]) -> None:
    """Raise ValueError for a limit that no measure can have, or a least that is above the most."""
    for key, value in section.items():
        if isinstance(value, dict) and key not in ("min_scores", "min_ratings"):
            _check(f"{where}{key}.", value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            if value < 0 or (key in _SHARES and value > 1):
                raise ValueError(
                    f"{where}{key}: got {value}, wanted {'a share of 0 to 1' if value > 0 else 'at least 0'}"
                )
            most = section.get(key.replace("min", "max", 1)) if key.startswith("min") else None
            if most is not None and value > most:
                raise ValueError(f"{where}{key}: got {value}, which is above {key.replace('min', 'max', 1)}, {most}")
