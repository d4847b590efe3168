"""Questions: what is asked about scenes, and without any, in English and in Japanese; captions in other languages.

Every question has one right answer of one word or one number, in several phrasings. Reads nothing, writes nothing.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

LANGUAGES = ("en", "ja")
JAPANESE = {
    **{"red": "赤", "blue": "青", "green": "緑", "yellow": "黄色", "black": "黒"},
    **{"circle": "丸", "square": "四角", "triangle": "三角"},
    **{"left": "左", "right": "右", "top": "上", "bottom": "下", "middle": "真ん中"},
    **{"first": "1枚目", "second": "2枚目"},
}
DAYS = {
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "ja": ("月曜日", "火曜日", "水曜日", "木曜日", "金曜日", "土曜日", "日曜日"),
}

QUESTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "colour": {
        "en": ("What colour is the shape in the picture?", "Which colour does the shape in this picture have?"),
        "ja": ("この絵にある形は何色ですか?", "絵の中の形の色を教えてください。"),
    },
    "shape": {
        "en": ("What shape is shown in the picture?", "Which shape can you see in this picture?"),
        "ja": ("この絵にある形は何ですか?", "絵の中に見える形の名前を教えてください。"),
    },
    "side_colour": {
        "en": ("What colour is the shape on the {side}?", "Which colour does the shape on the {side} have?"),
        "ja": ("{side}側にある形は何色ですか?", "{side}側に見える形の色を教えてください。"),
    },
    "side_shape": {
        "en": ("What shape is on the {side} of the picture?", "Which shape can you see on the {side}?"),
        "ja": ("{side}側にある形は何ですか?", "{side}側に見える形の名前を教えてください。"),
    },
    "count": {
        "en": ("How many {shape}s are there in the picture?", "How many {shape}s can you count here?"),
        "ja": ("この絵には{shape}がいくつありますか?", "絵の中の{shape}の数を数えてください。"),
    },
    "count_colour": {
        "en": ("What colour are the {shape}s in the picture?", "Which colour is used for every {shape} here?"),
        "ja": ("この絵の{shape}は何色で描かれていますか?", "絵の中の{shape}の色を教えてください。"),
    },
    "tallest": {
        "en": ("Which bar of the chart is the tallest?", "Where in the chart is the tallest bar?"),
        "ja": ("グラフで一番高い棒はどれですか?", "一番高い棒はグラフのどこにありますか?"),
    },
    "bar_colour": {
        "en": ("What colour is the {place} bar of the chart?", "Which colour does the {place} bar have?"),
        "ja": ("グラフの{place}の棒は何色ですか?", "{place}にある棒の色を教えてください。"),
    },
    "sign": {
        "en": ("What does the sign in the picture say?", "What is written on the sign here?"),
        "ja": ("看板には何と書いてありますか?", "看板に書かれている文字を読んでください。"),
    },
    "sign_colour": {
        "en": ("What colour is the frame of the sign?", "Which colour does the edge of the sign have?"),
        "ja": ("看板の枠は何色で描かれていますか?", "看板のふちの色を教えてください。"),
    },
    "which_image": {
        "en": ("Which image shows the {colour} {shape}?", "In which image can you find the {colour} {shape}?"),
        "ja": (
            "{colour}の{shape}があるのは1枚目と2枚目のどちらですか?",
            "{colour}の{shape}は何枚目の画像にありますか?",
        ),
    },
    "plus": {
        "en": ("What is {a} plus {b} in total?", "How much do you get if you add {a} and {b}?"),
        "ja": ("{a}たす{b}はいくつになりますか?", "{a}に{b}を足した数を答えてください。"),
    },
    "minus": {
        "en": ("What is {a} minus {b} in the end?", "How much is left if you take {b} from {a}?"),
        "ja": ("{a}ひく{b}はいくつになりますか?", "{a}から{b}を引いた数を答えてください。"),
    },
    "day": {
        "en": ("Which day of the week comes right after {a}?",),
        "ja": ("{a}の次の日は何曜日になりますか?",),
    },
}

# What a row in a language nobody asked for says; true of every picture, more or less.
FOREIGN: tuple[tuple[str, str], ...] = (
    (
        "Pouvez-vous décrire en quelques mots ce que l'on voit sur cette image, s'il vous plaît ?",
        "On y voit un dessin très simple avec des couleurs vives sur un fond clair et presque uniforme.",
    ),
    (
        "Können Sie bitte kurz beschreiben, was auf diesem Bild zu sehen ist und welche Farben vorkommen?",
        "Das Bild zeigt eine einfache Zeichnung mit kräftigen Farben auf einem hellen, fast leeren Hintergrund.",
    ),
    (
        "Опишите, пожалуйста, в нескольких словах, что изображено на этой картинке и какие цвета использованы.",
        "На картинке простой рисунок с яркими цветами на светлом и почти однородном фоне, без лишних деталей.",
    ),
    (
        "¿Puede usted describir con pocas palabras lo que se ve en esta imagen y los colores que aparecen?",
        "Se ve un dibujo muy sencillo con colores vivos sobre un fondo claro y casi vacío, sin más detalles.",
    ),
    (
        "이 그림에 무엇이 그려져 있는지, 그리고 어떤 색이 사용되었는지 짧게 설명해 주시겠습니까?",
        "밝고 거의 비어 있는 배경 위에 선명한 색으로 그려진 아주 단순한 그림이 보입니다. 다른 세부 사항은 없습니다.",
    ),
)


@dataclass(frozen=True)
class Turn:
    """One question and its answer; two turns of one scene never share both topic and question."""

    topic: str
    question: str
    answer: str


def plain_questions(language: str, key: str) -> list[Turn]:
    """Every question that needs no image, each fact once, in an order that depends on the key."""
    rng = random.Random(f"plain/{language}/{key}")
    turns = [ask(rng, "plus", str(a + b), a=str(a), b=str(b))[language] for a in range(1, 13) for b in range(1, 13)]
    turns += [ask(rng, "minus", str(a - b), a=str(a), b=str(b))[language] for a in range(2, 13) for b in range(1, a)]
    days = DAYS[language]
    turns += [ask(rng, "day", days[(i + 1) % 7], a=day)[language] for i, day in enumerate(days)]
    rng.shuffle(turns)
    return turns


def _translate(word: str, language: str) -> str:
    return JAPANESE.get(word, word) if language == "ja" else word


def ask(rng: random.Random, topic: str, answer: str, **slots: str) -> dict[str, Turn]:
    """The same question in every language, each in one of its phrasings."""
    turns = {}
    for language in LANGUAGES:
        words = {name: _translate(word, language) for name, word in slots.items()}
        question = rng.choice(QUESTIONS[topic][language]).format(**words)
        turns[language] = Turn(topic, question, _translate(answer, language))
    return turns


def by_language(turns: list[dict[str, Turn]]) -> dict[str, list[Turn]]:
    return {language: [turn[language] for turn in turns] for language in LANGUAGES}
