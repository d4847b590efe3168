"""What stays and what goes by the languages of questions and answers, with the real lid.176 model."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.strict import RecipeError, build
from stages.filters.language import (
    _MEANT,
    LANGUAGE,
    LONG_TURNS,
    LanguageParams,
    Rules,
    SourceRules,
    bundled_model,
    check,
    decide,
    labels,
    load,
)
from stages.filters.prose import JUDGED
from stages.stage import Assets, counts
from tests.stages.filters.test_detect import SENTENCES
from tests.stages.pictures import sample, table, talk

EN, JA, DE = SENTENCES["en"], SENTENCES["ja"], SENTENCES["de"]
LONG_JA = JA * 4


@pytest.fixture(scope="module")
def model() -> Any:
    return load(LanguageParams(("en",)), Assets({"language_model": bundled_model()}))


def judged(model: Any, *samples: dict[str, Any], **params: Any) -> list[dict[str, Any]]:
    return list(LANGUAGE.verdicts(table(*samples), LanguageParams(**params), model).to_pylist())


def reason(model: Any, question: str, answer: str, source: str = "tests", **params: Any) -> str | None:
    (row,) = judged(model, sample("a", question=question, answer=answer, source=source), **params)
    found: str | None = row["reason"]
    return found


def test_only_the_named_languages_stay(model: Any) -> None:
    samples = [sample(code, question=text, answer=text) for code, text in SENTENCES.items()]
    found = judged(model, *samples, keep=("en", "ja"))
    assert {row["sample_id"]: row["reason"] for row in found} == {
        code: None if code in ("en", "ja") else "wrong_language" for code in SENTENCES
    }
    assert [row["language"] for row in found] == list(SENTENCES)
    assert all(row["certain"] for row in found)


@pytest.mark.parametrize(
    ("question", "answer", "params", "expected"),
    [
        (EN, JA, {"keep": ("en", "ja")}, None),
        (EN, JA, {"keep": ("en",)}, "wrong_language"),
        (JA, EN, {"keep": ("en",)}, "wrong_language"),
        (EN, JA, {"keep": ("en", "ja"), "mixed": "drop"}, "mixed_languages"),
        (EN, EN, {"keep": ("en", "ja"), "mixed": "drop"}, None),
        (EN, JA, {"keep": ("en",), "answers": ("ja",)}, None),
        (JA, EN, {"keep": ("en",), "answers": ("ja",)}, "wrong_language"),
        (DE, JA, {"keep": ("ja",), "questions": ("de",)}, None),
        (DE, JA, {"keep": ("ja",), "questions": ("de",), "mixed": "drop"}, "mixed_languages"),
        (EN + EN, "はい", {"keep": ("en", "ja"), "mixed": "drop"}, None),
    ],
)
def test_questions_and_answers_have_lists_of_their_own(
    model: Any, question: str, answer: str, params: dict[str, Any], expected: str | None
) -> None:
    assert reason(model, question, answer, **params) == expected


def test_a_source_has_rules_of_its_own(model: Any) -> None:
    rules = {
        "pairs": SourceRules(keep=("de",), answers=("ja",), mixed="keep"),
        "strict": SourceRules(undetermined="drop", min_share=1.0),
    }
    given: dict[str, Any] = {"keep": ("en", "ja"), "mixed": "drop", "sources": rules}
    assert reason(model, DE, JA, "tests", **given) == "wrong_language"
    assert reason(model, DE, JA, "pairs", **given) is None
    assert reason(model, EN, JA, "pairs", **given) == "wrong_language"
    assert reason(model, EN, JA, "strict", **given) == "mixed_languages"
    assert reason(model, "12?", "34", "tests", **given) is None
    assert reason(model, "12?", "34", "strict", **given) == "undetermined_language"


def test_a_list_of_a_source_goes_before_those_of_all() -> None:
    params = LanguageParams(("en",), answers=("ja",), sources={"a": SourceRules(keep=("fr",)), "b": SourceRules()})
    assert Rules.of(params, "a").allowed == {"question": {"fr"}, "answer": {"fr"}}
    assert Rules.of(params, "b") == Rules.of(params, None) == Rules.of(params, "elsewhere")
    both = LanguageParams(("en",), questions=("ja",), sources={"a": SourceRules(keep=("fr",), questions=("de",))})
    assert Rules.of(both, "a").allowed == {"question": {"de"}, "answer": {"fr"}}
    assert Rules.of(replace(both, sources={"a": SourceRules(keep=("fr",))}), "a").allowed["question"] == {"fr"}
    assert Rules.of(params, None).allowed == {"question": {"en"}, "answer": {"ja"}}


def test_doubt_keeps_unless_the_recipe_drops(model: Any) -> None:
    short, empty = sample("short", question="Oui", answer="Non"), sample("empty", question="12?", answer="34")
    for undetermined, expected in (("keep", None), ("drop", "undetermined_language")):
        rows = judged(model, short, empty, keep=("en",), undetermined=undetermined)
        assert [(row["reason"], row["certain"]) for row in rows] == [(expected, False)] * 2
        assert (rows[1]["language"], rows[1]["turns"]) == ("und", [])
    assert judged(model, short, keep=("en",), min_characters=1, min_confidence=0.0)[0]["certain"]


def test_a_side_that_tells_nothing_is_no_fault(model: Any) -> None:
    assert reason(model, EN, "42", keep=("en",), answers=("ja",), undetermined="drop") is None
    assert reason(model, "<image>", JA, keep=("ja",), undetermined="drop") is None


def test_most_letters_of_a_side_decide_and_the_recipe_says_how_many(model: Any) -> None:
    turns = [("user", EN), ("assistant", EN), ("user", EN), ("assistant", LONG_JA), ("user", EN), ("assistant", EN * 2)]
    talked = sample("a", messages=talk(*turns))
    assert judged(model, talked, keep=("en",))[0]["reason"] is None
    assert judged(model, talked, keep=("en",), min_share=0.9)[0]["reason"] == "wrong_language"
    assert judged(model, talked, keep=("en", "ja"), min_share=1.0)[0]["reason"] is None


def test_code_and_formulas_are_no_language(model: Any) -> None:
    code = "```python\ndef the_answer(of_everything):\n    return the whole list of values for the user\n```"
    (row,) = judged(model, sample("a", question=f"{JA}\n{code}", answer=f"{JA} $\\frac{{the}}{{end}}$"), keep=("ja",))
    assert (row["reason"], row["language"]) == (None, "ja")
    assert {turn["language"] for turn in row["turns"]} == {"ja"}


def test_image_marks_are_no_text(model: Any) -> None:
    messages = talk(("user", DE), ("assistant", DE), images=3)
    (row,) = judged(model, sample("a", messages=messages), keep=("de",))
    assert (row["language"], row["reason"]) == ("de", None)


def test_short_turns_of_a_side_are_judged_together(model: Any) -> None:
    turns = [
        (role, text) for text in ("Wie heißt er?", "Was ist das?", "Wo liegt es?") for role in ("user", "assistant")
    ]
    (row,) = judged(model, sample("a", messages=talk(*turns)), keep=("en",))
    assert [(turn["side"], turn["language"]) for turn in row["turns"]] == [("question", "de"), ("answer", "de")]
    assert row["reason"] == "wrong_language" and row["characters"] == 2 * sum(
        map(str.isalpha, turns[0][1] + turns[2][1] + turns[4][1])
    )


def test_evidence_is_bounded_and_says_what_was_left_out(model: Any) -> None:
    turns = [(role, DE if n >= 50 else EN) for n in range(100) for role in ("user", "assistant")]
    (row,) = judged(model, sample("a", messages=talk(*turns)), keep=("en",))
    answers = [turn["language"] for turn in row["turns"] if turn["side"] == "answer"]
    assert answers.count("de") == answers.count("en") == LONG_TURNS // 2, "they are spread over the conversation"
    assert len(row["turns"]) == 2 * LONG_TURNS and row["skipped_turns"] == 200 - 2 * LONG_TURNS
    (row,) = judged(model, sample("a", question=EN * 1_000, answer=EN), keep=("en",))
    assert row["characters"] <= JUDGED + len(EN) and row["skipped_turns"] == 0


def test_a_declared_language_decides_where_letters_do_not(model: Any) -> None:
    told = {"question": "東京都大阪府", "answer": "人口三百万"}
    for declared, language, expected in (
        ("ja", "ja", None),
        ("zh_simplified", "zh", "wrong_language"),
        (None, "und", None),
    ):
        (row,) = judged(model, sample("a", declared_language=declared, **told), keep=("ja",))
        assert (row["language"], row["reason"]) == (language, expected)


TURN = st.builds(
    lambda side, language, confidence, characters, by_script: {
        **{"side": side, "language": language, "confidence": confidence},
        **{"characters": characters, "by_script": by_script},
    },
    st.sampled_from(["question", "answer"]),
    st.sampled_from(["en", "ja", "de", "und"]),
    st.floats(0, 1, width=32),
    st.integers(1, 200),
    st.booleans(),
)


@given(st.lists(TURN, max_size=8), st.floats(0, 1), st.integers(0, 100), st.floats(0, 1))
def test_a_verdict_follows_from_the_evidence_alone(
    turns: list[dict[str, Any]], sure: float, least: int, share: float
) -> None:
    evidence = {"turns": turns}
    rules = Rules.of(LanguageParams(("en", "ja"), min_confidence=sure, min_characters=least, min_share=share), None)
    assert decide(evidence, rules) in (None, "wrong_language")
    told = [turn for turn in turns if turn["confidence"] >= sure and (turn["by_script"] or turn["characters"] >= least)]
    if not [turn for turn in told if turn["language"] == "de"]:
        assert decide(evidence, rules) is None, "nothing tells of a language that isn't kept"
    strict = decide(evidence, rules._replace(mixed="drop", undetermined="drop"))
    assert (strict == "undetermined_language") == (not [turn for turn in told if turn["language"] != "und"])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.text(max_size=60), min_size=1, max_size=5), min_size=1, max_size=6))
def test_every_sample_gets_one_verdict_and_what_another_threshold_would_do(model: Any, talks: list[list[str]]) -> None:
    roles = ("user", "assistant", "system")
    samples = [
        sample(str(n), messages=talk(*((roles[i % 3], text) for i, text in enumerate(texts))))
        for n, texts in enumerate(talks)
    ]
    first, other = LanguageParams(("en",)), LanguageParams(("ja",), min_confidence=0.2, min_characters=3)
    verdict = LANGUAGE.verdicts(table(*samples), first, model)
    ledger = counts(verdict)
    assert ledger.rows_in == len(samples) == ledger.kept + sum(ledger.dropped.values())
    again = LANGUAGE.verdicts(table(*samples), other, model).to_pylist()
    rules = Rules.of(other, "tests")
    assert [decide(row, rules) for row in verdict.to_pylist()] == [row["reason"] for row in again]


@pytest.mark.parametrize("key", ["keep", "questions", "answers"])
def test_an_empty_list_of_languages_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=f"{key} is empty, so every sample would be dropped"):
        LanguageParams(**{"keep": ("en",), key: ()})
    with pytest.raises(ValueError, match=f"{key} is empty"):
        SourceRules(**{key: ()})


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"keep": ["en"], "sources": {"a": {"kep": ["en"]}}},
            "language.sources.a.kep: unknown key; did you mean 'keep'?",
        ),
        (
            {"keep": ["en"], "mixed": "dorp"},
            "language.mixed: got 'dorp' (str), wanted one of keep, drop; did you mean 'drop'?",
        ),
        ({"keep": ["en"], "min_share": 50}, "language: min_share: got 50.0, wanted a number from 0 to 1"),
        ({"keep": ["en"], "sources": {"a": {"min_confidence": -1}}}, "language.sources.a: min_confidence: got -1.0"),
    ],
)
def test_a_wrong_section_is_refused_in_one_line(section: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)):
        build(LanguageParams, section, "language")


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("jp", "did you mean 'ja'?"),
        ("cn", "did you mean 'zh'?"),
        ("jpn", "did you mean 'ja'?"),
        ("frx", "did you mean 'fr'?"),
        ("xx", "it has 174, such as en, ja, zh, de"),
    ],
)
def test_a_code_that_is_never_found_is_refused_with_the_near_one(code: str, hint: str) -> None:
    """All of that language would be dropped, and the run would look sound."""
    assets = Assets({"language_model": bundled_model()})
    check(LanguageParams(tuple(SENTENCES)), assets)
    said = f"{code!r} is no language of the model; {hint}"
    with pytest.raises(ValueError, match="^" + re.escape(f"keep: {said}")):
        check(LanguageParams(("en", code)), assets)
    with pytest.raises(ValueError, match="^" + re.escape(f"sources.a.answers: {said}")):
        check(LanguageParams(("en",), sources={"a": SourceRules(answers=(code,))}), assets)


def test_what_is_taken_for_a_mistake_is_no_language_and_what_is_meant_is_one(model: Any) -> None:
    known = labels(model)
    assert len(known) == 174 and set(_MEANT.values()) <= known
    assert not set(_MEANT) & known
