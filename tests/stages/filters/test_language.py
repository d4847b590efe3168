"""The real lid.176 model on real sentences, and what is kept in doubt."""

from __future__ import annotations

import re
from typing import Any

import pytest

from stages.filters.language import (
    _MEANT,
    LANGUAGE,
    LanguageParams,
    bundled_model,
    check,
    detect,
    labels,
    load,
)
from stages.stage import Assets
from tests.stages.pictures import sample, table, talk

SENTENCES = {
    "en": ["The picture shows a small red house beside a quiet river.", "How many people are standing in the queue?"],
    "ja": [
        "この写真には小さな赤い家が写っています。",
        "棒グラフの中で一番高い値はいくつですか?",
        "東京駅の前に人が並んでいる。",
    ],
    "zh": ["这张图片里有一座红色的小房子。", "请问图中一共有多少个人在排队?", "今天天气很好,我们去公园散步。"],
    "de": ["Auf dem Bild ist ein kleines rotes Haus am Fluss zu sehen.", "Wie viele Menschen stehen in der Schlange?"],
    "fr": ["Cette image montre une petite maison rouge près de la rivière.", "Combien de personnes font la queue?"],
    "ru": ["На картинке изображён маленький красный дом у реки.", "Сколько человек стоит в очереди?"],
    "ko": ["이 사진에는 강가에 있는 작은 빨간 집이 있습니다.", "줄을 서 있는 사람은 모두 몇 명입니까?"],
}
# Sentences without kana that the quantised model takes for Japanese.
CHINESE = [
    "蓝色部分占百分之三十",
    "二零二零年销售额最高",
    "左上角的数字是多少",
    "一名女子手持雨伞",
    "年度总结报告",
    "三只猫",
]


@pytest.fixture(scope="module")
def model() -> Any:
    return load(LanguageParams(("en",)), Assets({"language_model": bundled_model()}))


@pytest.mark.parametrize(("language", "text"), [(code, text) for code, texts in SENTENCES.items() for text in texts])
def test_sentences_are_told_apart(model: Any, language: str, text: str) -> None:
    found, confidence, characters = detect(text, model)
    assert found == language
    assert 0.5 <= confidence <= 1
    assert characters == sum(map(str.isalpha, text))


def test_chinese_is_not_taken_for_japanese(model: Any) -> None:
    assert {detect(text, model)[0] for text in CHINESE} == {"zh"}
    assert {model.predict(text, k=1)[0][0] for text in CHINESE} == {"__label__ja"}, "these no longer prove anything"


class Says:
    """A model with one answer: what is tested is what happens to it."""

    def __init__(self, language: str) -> None:
        self.language = language

    def predict(self, text: str, k: int) -> tuple[list[str], list[float]]:
        return [f"__label__{self.language}"], [0.9]


@pytest.mark.parametrize(
    ("says", "text", "language"),
    [
        ("ja", "统计图", "zh"),
        ("ja", "統計グラフ", "ja"),
        ("ja", "abc", "ja"),
        ("zh", "私はこの猫が好きです", "ja"),
        (
            "zh",
            "《となりのトトロ》是宫崎骏导演的一部著名动画电影,上映于一九八八年,讲述了两姐妹与森林精灵相遇的故事",
            "ja",
        ),
        (
            "zh",
            "动画片《トトロ》是宫崎骏导演的一部著名电影,上映于一九八八年,讲述了两姐妹与森林里的精灵相遇的温馨故事",
            "zh",
        ),
        ("ko", "统计图です", "ko"),
    ],
)
def test_script_corrects_japanese_and_chinese(says: str, text: str, language: str) -> None:
    assert detect(text, Says(says))[0] == language


@pytest.mark.parametrize("text", ["", "   \n", "123 + 456 = 579", "😀😀", "?!。、"])
def test_text_without_letters_is_of_no_language(model: Any, text: str) -> None:
    assert detect(text, model) == ("und", 0.0, 0)


@pytest.mark.parametrize("text", ["a\ud800b", "\udfff猫", "a\0b", "__label__fr", "\u2028x\u2029", "é" * 20_000])
def test_odd_text_gets_an_answer(model: Any, text: str) -> None:
    language, confidence, characters = detect(text, model)
    assert language and 0 <= confidence <= 1 and characters > 0


def judged(model: Any, *samples: dict[str, Any], **params: Any) -> list[dict[str, Any]]:
    return list(LANGUAGE.verdicts(table(*samples), LanguageParams(**params), model).to_pylist())


def test_only_the_named_languages_stay(model: Any) -> None:
    samples = [sample(code, question=texts[0], answer=texts[1]) for code, texts in SENTENCES.items()]
    found = judged(model, *samples, keep=("en", "ja"))
    assert {row["sample_id"]: row["reason"] for row in found} == {
        code: None if code in ("en", "ja") else "wrong_language" for code in SENTENCES
    }
    assert [row["language"] for row in found] == list(SENTENCES)
    assert all(row["certain"] for row in found)


def test_doubt_keeps_unless_the_recipe_drops(model: Any) -> None:
    short, empty = sample("short", question="Oui", answer="Non"), sample("empty", question="12?", answer="34")
    for uncertain, reason in (("keep", None), ("drop", "uncertain_language")):
        rows = judged(model, short, empty, keep=("en",), uncertain=uncertain)
        assert [(row["reason"], row["certain"]) for row in rows] == [(reason, False)] * 2
        assert rows[1]["language"] == "und"
    assert judged(model, short, keep=("en",), min_characters=1, min_confidence=0.0)[0]["certain"]


def test_image_marks_are_no_text(model: Any) -> None:
    messages = talk(("user", SENTENCES["de"][0]), ("assistant", SENTENCES["de"][1]), images=3)
    (row,) = judged(model, sample("a", messages=messages), keep=("de",))
    assert (row["language"], row["reason"]) == ("de", None)


def test_an_empty_list_of_languages_is_refused() -> None:
    with pytest.raises(ValueError, match="every sample would be dropped"):
        LanguageParams(keep=())


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("jp", "did you mean 'ja'?"),
        ("cn", "did you mean 'zh'?"),
        ("jpn", "did you mean 'ja'?"),
        ("wuv", "did you mean 'wuu'?"),
        ("xx", "it has 176, such as en, ja, zh, de"),
    ],
)
def test_a_code_that_the_model_never_gives_is_refused_with_the_near_one(code: str, hint: str) -> None:
    """All of that language would be dropped, and the run would look sound."""
    assets = Assets({"language_model": bundled_model()})
    check(LanguageParams(tuple(SENTENCES)), assets)
    with pytest.raises(ValueError, match=re.escape(f"keep: {code!r} is no language of the model; {hint}")):
        check(LanguageParams(("en", code)), assets)


def test_what_is_taken_for_a_mistake_is_no_language_and_what_is_meant_is_one(model: Any) -> None:
    known = labels(model)
    assert len(known) == 176 and set(_MEANT.values()) <= known
    assert not set(_MEANT) & known
