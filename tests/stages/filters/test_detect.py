"""The real lid.176 model on real sentences, and what letters alone decide."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.filters.detect import Found, declared_code, detect
from stages.filters.language import LanguageParams, bundled_model, labels, load
from stages.filters.scripts import LANGUAGES, letters
from stages.stage import Assets

SENTENCES = {
    "ar": "تُظهر هذه الصورة منزلا أحمر صغيرا بجانب نهر هادئ.",
    "bn": "এই ছবিতে নদীর পাশে একটি ছোট লাল বাড়ি দেখা যাচ্ছে।",
    "cs": "Na obrázku je malý červený dům vedle klidné řeky.",
    "de": "Auf dem Bild ist ein kleines rotes Haus am Fluss zu sehen.",
    "el": "Η εικόνα δείχνει ένα μικρό κόκκινο σπίτι δίπλα στο ποτάμι.",
    "en": "The picture shows a small red house beside a quiet river.",
    "es": "La imagen muestra una pequeña casa roja junto a un río tranquilo.",
    "fa": "این تصویر یک خانه کوچک قرمز را در کنار رودخانه نشان می‌دهد.",
    "fr": "Cette image montre une petite maison rouge près de la rivière.",
    "he": "בתמונה נראה בית אדום קטן ליד נהר שקט.",
    "hi": "इस चित्र में नदी के किनारे एक छोटा लाल घर दिखाई दे रहा है।",
    "id": "Gambar ini menunjukkan sebuah rumah merah kecil di tepi sungai yang tenang.",
    "it": "L'immagine mostra una piccola casa rossa accanto a un fiume tranquillo.",
    "ja": "この写真には小さな赤い家が写っています。",
    "ko": "이 사진에는 강가에 있는 작은 빨간 집이 있습니다.",
    "nl": "De foto toont een klein rood huis naast een rustige rivier.",
    "pl": "Na zdjęciu widać mały czerwony dom nad spokojną rzeką.",
    "pt": "A imagem mostra uma pequena casa vermelha ao lado de um rio tranquilo.",
    "ru": "На картинке изображён маленький красный дом у реки.",
    "ta": "இந்தப் படத்தில் ஆற்றின் அருகே ஒரு சிறிய சிவப்பு வீடு உள்ளது.",
    "th": "ภาพนี้แสดงบ้านสีแดงหลังเล็กข้างแม่น้ำที่เงียบสงบ",
    "tr": "Resimde sakin bir nehrin yanında küçük kırmızı bir ev görünüyor.",
    "uk": "На зображенні маленький червоний будинок біля тихої річки.",
    "ur": "اس تصویر میں دریا کے کنارے ایک چھوٹا سا سرخ گھر دکھائی دے رہا ہے۔",
    "vi": "Bức ảnh cho thấy một ngôi nhà nhỏ màu đỏ bên cạnh dòng sông.",
    "zh": "这张图片里有一座红色的小房子。",
}
# Japanese without one kana, and Chinese, which the quantised model takes for Japanese
KANJI = [
    "売上高推移図",
    "東京都議会議員選挙立候補者一覧",
    "営業時間変更",
    "円グラフ",
    "駅前広場",
    "検査結果報告書",
    "国内総生産増減率",
]
CHINESE = [
    "蓝色部分占百分之三十",
    "二零二零年销售额最高",
    "年度总结报告",
    "這個圖表顯示銷售額",
    "請問圖中有幾個人",
    "三只猫坐在这里",
]
EITHER = ["東京都大阪府", "三月十五日", "人口", "中山大学文学部", "電力需要予測", "基本的理由", "使用不能"]


@pytest.fixture(scope="module")
def model() -> Any:
    return load(LanguageParams(("en",)), Assets({"language_model": bundled_model()}))


class Says:
    """A model with fixed answers: what is tested is what becomes of them."""

    def __init__(self, *answers: tuple[str, float]) -> None:
        self.answers, self.text = answers, ""

    def predict(self, text: str, k: int) -> tuple[list[str], list[float]]:
        self.text = text
        return [f"__label__{language}" for language, _ in self.answers], [score for _, score in self.answers]


@pytest.mark.parametrize("language", SENTENCES)
def test_sentences_are_told_apart(model: Any, language: str) -> None:
    found = detect(SENTENCES[language], model)
    assert found.language == language
    assert 0.6 <= found.confidence <= 1
    assert found.characters == sum(map(str.isalpha, SENTENCES[language]))


@pytest.mark.parametrize(("language", "texts"), [("ja", KANJI), ("zh", CHINESE)])
def test_japanese_in_kanji_alone_is_told_from_chinese(model: Any, language: str, texts: list[str]) -> None:
    assert {text: detect(text, model).language for text in texts} == dict.fromkeys(texts, language)
    assert all(detect(text, model, "ja").language == language for text in texts), "no declaration can change that"


@pytest.mark.parametrize("text", EITHER)
def test_what_both_write_alike_is_undetermined_unless_declared(model: Any, text: str) -> None:
    assert detect(text, model)[:2] == ("und", 0.0)
    for declared in ("ja", "zh"):
        assert detect(text, model, declared)[:2] == (declared, 1.0)
    assert detect(text, model, "ko").language == "und"


def test_one_rare_character_is_less_than_a_decision(model: Any) -> None:
    weak, strong = detect("中山國", model), detect("中山国図", model)
    assert weak.language == "zh" and weak.confidence < 0.5 and not weak.by_script
    assert strong.language == "ja" and strong.confidence > 0.5 and strong.by_script
    assert {detect(text, model).language for text in ("也人口", "但人口", "所以人口", "人口，人口")} == {"zh"}
    assert detect("語彙", model).language == "und", "of JIS's second level, and of every day"


@pytest.mark.parametrize(
    ("declared", "code"),
    [
        ("ja", "ja"),
        ("Japanese", "ja"),
        ("zh_simplified", "zh"),
        ("zh-TW", "zh"),
        ("en", None),
        ("", None),
        (None, None),
    ],
)
def test_a_declared_language_is_read_as_people_write_it(declared: str | None, code: str | None) -> None:
    assert declared_code(declared) == code


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("はい", "ja"),
        ("猫だ", "ja"),
        ("네", "ko"),
        ("ναι", "el"),
        ("ใช่", "th"),
        ("PyTorchで学習する", "ja"),
        ("使用 GitHub Actions 运行测试", "zh"),
        ("统计图です", "ja"),
        ("动画片《トトロ》是宫崎骏导演的一部著名电影,上映于一九八八年,讲述了两姐妹与森林里的精灵相遇的温馨故事", "zh"),
    ],
)
def test_a_script_of_one_language_decides_for_the_shortest_text(text: str, language: str) -> None:
    found = detect(text, Says(("xx", 0.9)))
    assert found.language == language and found.by_script and found.confidence > 0.5


@pytest.mark.parametrize(
    ("text", "answers", "language"),
    [
        ("да", [("en", 0.8), ("ja", 0.1), ("bg", 0.02), ("ru", 0.01)], "bg"),
        ("yes", [("ru", 0.8), ("zh", 0.1), ("de", 0.02)], "de"),
        ("हाँ", [("fr", 0.9), ("ne", 0.05), ("hi", 0.04)], "ne"),
        ("oui", [("ja", 0.9)], "und"),
        ("some", [("war", 0.5), ("en", 0.4)], "war"),
    ],
)
def test_the_models_answers_are_those_of_the_script(text: str, answers: list[tuple[str, float]], language: str) -> None:
    assert detect(text, Says(*answers)).language == language


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("não foi possível abrir uma imagem", "pt"),
        ("no se puede abrir la imagen del usuario", "es"),
        ("imagem", "es"),
        ("el " + "imagem não foi uma é " * 20, "es"),
    ],
)
def test_small_words_of_a_short_text_are_heard(text: str, language: str) -> None:
    found = detect(text, Says(("es", 0.5), ("pt", 0.3), ("it", 0.2)))
    assert found.language == language and 0 < found.confidence < 1


def test_words_make_no_language_that_the_model_does_not_think_of() -> None:
    assert detect("não foi possível", Says(("es", 0.9), ("it", 0.1))).language == "es"


def test_confidence_is_the_share_among_the_languages_of_the_script() -> None:
    assert detect("house", Says(("en", 0.3), ("ru", 0.6), ("de", 0.1))).confidence == pytest.approx(0.75)
    assert detect("house", Says(("en", 1.00002))).confidence == 1


def test_the_model_sees_small_letters_of_the_main_script() -> None:
    model = Says(("ru", 0.9))
    detect("Привет МИР from Hello", model)
    assert model.text.split() == ["привет", "мир"]


@pytest.mark.parametrize("text", ["", "   \n", "123 + 456 = 579", "😀😀", "?!。、", "```\nx = 1\n```", "$a + b$"])
def test_text_without_letters_is_of_no_language(model: Any, text: str) -> None:
    assert detect(text, model) == Found("und", 0.0, 0, False)


@pytest.mark.parametrize(
    "text", ["a\ud800b", "\udfff猫", "a\0b", "__label__fr x", "\u2028x\u2029", "é" * 20_000, "ꦗ", "ⵣ"]
)
def test_odd_text_gets_an_answer(model: Any, text: str) -> None:
    language, confidence, characters, _ = detect(text, model)
    assert language and 0 <= confidence <= 1 and characters > 0


@given(text=st.text() | st.text("aéжあ中한ก ", max_size=80))
@settings(max_examples=300)
def test_any_text_gets_the_same_answer_twice(text: str) -> None:
    model = Says(("en", 0.5), ("ru", 0.3), ("ar", 0.1), ("hi", 0.1))
    found = detect(text, model)
    assert found == detect(text, model, None)
    assert 0 <= found.confidence <= 1 and (found.characters > 0 or found == Found("und", 0.0, 0, False))


def test_every_language_of_a_script_is_one_that_the_model_knows(model: Any) -> None:
    assert {code for codes in LANGUAGES.values() for code in codes} <= labels(model)


@pytest.mark.parametrize(
    ("text", "script"),
    [("abcd дом", "Latin"), ("абв ab", "Cyrillic"), ("学習 machine", "Han"), ("ｶﾅ", "Kana"), ("ꦗ", "Other")],
)
def test_most_letters_name_the_script(text: str, script: str) -> None:
    assert letters(text).script == script
