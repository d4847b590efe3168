"""Every rule at its limit and beyond; what the measures say of texts of many languages; no text takes long."""

from __future__ import annotations

import time
from typing import Any

import pytest

from schemas import strict
from schemas.strict import RecipeError
from stages.filters.quality import QUALITY, QualityParams
from stages.filters.rules import text
from stages.filters.rules.phrases import boilerplate, phrases, refusals
from stages.filters.rules.table import NO_TURN_LEFT, OF_TURNS, REASONS, RULES
from stages.images.spread import spread
from tests.stages.pictures import sample, table, talk

ASK = ("user", "What is it?")
TWICE = "one two three four five one two three four five"  # 6 runs of five words, the last is the first
LINES = "a\n b \n\nb\nc"  # 4 lines, one stood before
URL = "see https://example.org/a now"  # 21 of 29 characters
JA = "これは猫です。\nabc\nとても長い文章である。"


def one(*turns: tuple[str, str], **fields: Any) -> dict[str, Any]:
    return sample("a", messages=talk(*turns), **fields)


def said(answer: str) -> dict[str, Any]:
    return one(ASK, ("assistant", answer))


def asked(question: str) -> dict[str, Any]:
    return one(("user", question), ("assistant", "A cat."))


def picture(width: int, height: int, grey: bytes | None = None) -> dict[str, Any]:
    return sample("a", image_info=[{"width": width, "height": height, "grey": grey}])


def both(side: str) -> list[tuple[str, str, Any, Any, Any]]:
    """The limits that questions and answers share."""
    of = said if side == "answer" else asked
    size = text.compression("a" * 100) or 0
    rows = (
        ("short_{}", "min_characters", of(" abc\n"), 3, 4),
        ("long_{}", "max_characters", of(" abc\n"), 3, 2),
        ("{}_lines_repeat", "max_repeated_lines", of(LINES), 0.25, 0.24),
        ("{}_words_repeat", "max_repeated_words", of(TWICE), 1 / 6, 0.16),
        ("compressible_{}", "min_compression", of("a" * 100), size, size + 0.01),
        ("dense_{}", "max_compression", of("a" * 100), size, size - 0.01),
        ("{}_of_urls", "max_url_share", of(URL), 21 / 29, 0.72),
        ("{}_control_characters", "max_control_characters", of("a\x00b\x85c\ufffd\n\t"), 3, 2),
        ("{}_mojibake", "max_mojibake", of("CafÃ© â€œoui"), 2, 1),
    )
    return [(reason.format(side), f"{side}s.{key}", row, passes, fails) for reason, key, row, passes, fails in rows]


RATED = one(ASK, ("assistant", "A cat."), turn_scores=[{"name": "x_ratings", "values": [2.5]}])
# reason, key, a sample, a limit that it meets, one that it fails
CASES: list[tuple[str, str, Any, Any, Any]] = [
    ("low_turn_rating", "turns.min_ratings", RATED, {"x_ratings": 2.5}, {"x_ratings": 2.6}),
    ("out_of_order", "turns.alternating", one(ASK, ASK, ("assistant", "a")), False, True),
    ("echo", "turns.no_echo", one(("user", " Yes?"), ("assistant", "yes? ")), False, True),
    ("repeated_turn", "turns.no_copies", one(*[ASK, ("assistant", "a")] * 2), False, True),
    *both("question"),
    *both("answer"),
    ("refusal", "answers.no_refusals", said("I’m sorry, but I can’t see that."), False, True),
    ("boilerplate", "answers.no_boilerplate", said("Well. As an AI language model, yes."), False, True),
    ("few_kana", "japanese.min_kana_lines", said(JA), 2 / 3, 0.67),
    ("long_sentences", "japanese.max_sentence_characters", said(JA), 19 / 3, 6.3),
    ("ascii_run", "japanese.max_ascii_run", said(JA), 3, 2),
    ("compressible_japanese", "japanese.min_compression", said("猫が" * 40), 0.05, 0.5),
    ("dense_japanese", "japanese.max_compression", said("猫が" * 40), 0.5, 0.05),
    ("few_turns", "turns.min", one(*[ASK, ("assistant", "a")] * 2), 2, 3),
    ("many_turns", "turns.max", one(*[ASK, ("assistant", "a")] * 2), 2, 1),
    ("low_rating", "min_scores", sample("a", scores=[{"name": "x_min", "value": 3}]), {"x_min": 3}, {"x_min": 3.5}),
    ("small_image", "min_image_side", picture(30, 28), 28, 29),
    ("extreme_aspect", "max_aspect", picture(50, 10), 5.0, 4.9),
    ("few_pixels", "min_pixels", picture(30, 20), 600, 601),
    ("many_pixels", "max_pixels", picture(30, 20), 600, 599),
    ("uniform_image", "min_spread", picture(9, 9, bytes([100, 104] * 512)), 2.0, 2.1),
    ("short_text", "min_characters", one(("user", "ab"), ("assistant", "c")), 3, 4),
    ("long_text", "max_characters", one(("user", "ab"), ("assistant", "c")), 3, 2),
]
# Those that are always on stand in test_quality.py
ALWAYS = {rule.reason for rule in RULES if not rule.key}


def params(key: str, value: Any, **more: Any) -> QualityParams:
    mapping: dict[str, Any] = {**more}
    *sections, last = key.split(".")
    inner = mapping
    for section in sections:
        inner = inner.setdefault(section, {})
    inner[last] = value
    return strict.build(QualityParams, mapping)


def reason_of(row: dict[str, Any], chosen: QualityParams) -> Any:
    return QUALITY.verdicts(table(row), chosen, None)["reason"][0].as_py()


@pytest.mark.parametrize(("reason", "key", "row", "passes", "fails"), CASES, ids=[case[0] for case in CASES])
def test_a_rule_drops_what_is_beyond_its_limit_alone(reason: str, key: str, row: Any, passes: Any, fails: Any) -> None:
    (rule,) = (rule for rule in RULES if rule.reason == reason)
    assert rule.key == key
    assert reason_of(row, QualityParams()) is None
    assert reason_of(row, params(key, passes)) is None
    assert reason_of(row, params(key, fails)) == reason


def test_every_rule_is_tried_and_every_reason_is_of_one_rule() -> None:
    tried = [case[0] for case in CASES]
    assert len(tried) == len(set(tried)) and {*tried, *ALWAYS, NO_TURN_LEFT} == set(REASONS)
    assert len({rule.reason for rule in RULES}) == len(RULES)


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ({"answers": {"max_charaters": 3}}, "answers.max_charaters: unknown key; did you mean 'max_characters'?"),
        ({"turns": {"remove": ["empty_anser"]}}, "'empty_answer'?"),
        ({"turns": {"remove": ["small_image"]}}, "no rule of turns"),
        ({"turns": {"remove": "al"}}, "did you mean 'all'?"),
        ({"answers": {"max_url_share": 1.5}}, "answers.max_url_share: got 1.5, wanted a share of 0 to 1"),
        ({"min_image_side": -1}, "min_image_side: got -1, wanted at least 0"),
        ({"turns": {"min": 3, "max": 2}}, "turns.min: got 3, which is above max, 2"),
        ({"min_pixels": 9, "max_pixels": 8}, "min_pixels: got 9, which is above max_pixels, 8"),
    ],
)
def test_what_a_recipe_gets_wrong_is_said_in_one_line(mapping: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError) as error:
        strict.build(QualityParams, mapping, "data.quality")
    assert says in str(error.value) and "\n" not in str(error.value)


def test_what_is_of_another_kind_or_too_short_to_tell_passes() -> None:
    strictest = {"min_kana_lines": 1.0, "max_sentence_characters": 0.1, "max_ascii_run": 0, "max_compression": 0.0}
    for answer in ("A long sentence in English, without any kana.", "漢字熟語"):
        assert reason_of(said(answer), strict.build(QualityParams, {"japanese": strictest})) is None
    assert reason_of(said("one two three four"), params("answers.max_repeated_words", 0.0)) is None
    assert reason_of(picture(9, 9), params("min_spread", 50.0)) is None
    assert reason_of(sample("a"), params("min_pixels", 50)) is None
    short = one(ASK, ("assistant", "a"), turn_scores=[{"name": "x_ratings", "values": [1, 1]}])
    assert reason_of(short, params("turns.min_ratings", {"x_ratings": 5})) is None  # of which turn, nobody can say


@pytest.mark.parametrize(
    ("turns", "bad"),
    [
        ([ASK, ("assistant", "a")], False),
        ([("system", "s"), ASK, ("assistant", "a"), ASK, ("assistant", "b")], False),
        ([("assistant", "a document")], False),
        ([("assistant", "hello"), ASK, ("assistant", "a")], True),
        ([ASK, ("assistant", "a"), ("assistant", "b")], True),
        ([ASK, ("assistant", "a"), ("system", "s"), ASK, ("assistant", "b")], True),
        ([("system", "s"), ("assistant", "a"), ASK, ("assistant", "b")], True),
    ],
)
def test_roles_take_turns(turns: list[tuple[str, str]], bad: bool) -> None:
    assert reason_of(one(*turns), params("turns.alternating", True)) == ("out_of_order" if bad else None)


def test_the_same_question_about_another_image_is_no_copy() -> None:
    row = one(*[("user", "What?"), ("assistant", "A cat.")] * 2)
    assert reason_of(row, params("turns.no_copies", True)) == "repeated_turn"
    for number in (0, 2):
        row["messages"][number]["content"].insert(0, {"type": "image", "text": None})
    assert reason_of(row, params("turns.no_copies", True)) is None


@pytest.mark.parametrize(
    "broken", ["CafÃ©", "25Â°C", "itâ€™s", "Ð¿Ñ€Ð¸Ð²ÐµÑ‚", "ã\x81\x82ã\x81„", "ï¿½", "ðŸ˜€", "縺ゅ＞縺ｧ縺"]
)
def test_mojibake_is_found(broken: str) -> None:
    assert text.mojibake(broken)


@pytest.mark.parametrize(
    "sound",
    [
        "«CAFÉ» à l’été, 25 °C, £5 — ©",
        "“AMANH\u00c3”, “MA\u00c7\u00c3’, IRM\u00c3… não, São Paulo – CAF\u00c9» \u00c3\u00bb",
        "Ärger über Öl, ñandú, Ðor, Ñandú, år, naïve, Ÿ, œuvre",
        "Tiếng Việt: Ấn Độ, Â, â, Châu Âu",
        "Привет, мир! Ωραία. שלום مرحبا สวัสดี नमस्ते 你好 こんにちは 안녕하세요 😀",
        "縺れた糸",
        "«RAM\u00c2\u00bb",
    ],
)
def test_sound_text_of_many_languages_has_no_mojibake_or_control_characters(sound: str) -> None:
    assert text.mojibake(sound) == 0 and text.control_characters(sound) == 0


def test_phrases_are_written_as_they_are_looked_for() -> None:
    for kind, found in (("refusals", refusals), ("boilerplate", boilerplate)):
        assert len(set(phrases(kind))) == len(phrases(kind)) > 20
        for phrase in phrases(kind):
            assert found(f"Hm. {phrase.upper()} ...") or phrase.upper().lower() != phrase, phrase
            assert found(f"Hm. {phrase} ..."), phrase
    assert refusals("x" * 500 + "I cannot assist with that") == 0
    for good in (
        "No.",
        "The sign says: I'm sorry.",
        "すみません、と書いてあります。",
        "The image shows a cat.",
        "对不起",
    ):
        assert refusals(good) == boilerplate(good) == 0


def test_spread_is_that_of_what_ingest_kept() -> None:
    assert spread({"grey": bytes([7] * 1024)}) == 0.0 and spread({"grey": bytes([0, 10] * 512)}) == 5.0
    assert spread({"grey": None}) is spread({}) is None


HOSTILE = [
    "a",
    " ",
    "a ",
    "\n",
    "a\n",
    "http://",
    "www.",
    "Ã",
    "ãã\x80",
    "縺",
    "縺a",
    "。",
    "あ",
    "あ\n",
    "\x00",
    "ab" * 50 + "\n",
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_long_hostile_text_takes_time_in_proportion(piece: str) -> None:
    everything = strict.build(QualityParams, {"evidence": "all"})

    def took(size: int) -> float:
        row = table(said(piece * (size // len(piece))))
        start = time.process_time()
        QUALITY.verdicts(row, everything, None)
        return time.process_time() - start

    assert took(1_000_000) < 5


def test_what_no_rule_asks_for_is_measured_where_the_recipe_says_so() -> None:
    row = table(said("a b c d e f"))
    needed, every = (QUALITY.verdicts(row, QualityParams(evidence=e), None) for e in ("needed", "all"))
    assert needed["answer_repeated_words"].to_pylist() == [None]
    assert every["answer_repeated_words"].to_pylist() == [[0.0]]
    named = {rule.measure for rule in RULES} | {rule.where for rule in RULES} - {""}
    assert named - {"scores", "turn_scores"} <= set(every.column_names)
    assert set(OF_TURNS) <= set(REASONS)
