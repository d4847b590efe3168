"""How many planted leaks of benchmarks `decontaminate` finds, and how many clean samples it takes for leaks.

    python -m benchmarks.leaks [--half tune|test] [--each 100] [--clean 5]

Everything is made here. A benchmark of pictures, each with a short question that everybody asks, and one of texts, in
English and in Japanese. Of each sample one leaks per kind of change: pictures saved again, resized, cropped by up to
3 % a side; texts in other case, white space and punctuation, or inside a longer conversation. The clean samples are the
hard ones: other pictures from the same templates under the very questions of the benchmark, texts with another number,
texts by the same grammar. Rows that begin with "near" are told and not counted: a question about a picture without the
picture, and a text with another name in it, are no plain leaks and not clean either. The halves have other kinds of
pictures and other words; nothing was chosen by the test half.
"""

from __future__ import annotations

import argparse
import io
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw

from schemas.sample import SAMPLE
from stages.filters.decontaminate import DECONTAMINATE, DecontaminateParams, load
from stages.images.rules import inspect
from stages.stage import Assets

GENERIC = [
    "What is the title of the book?",
    "Is there a dog in the image?",
    "How many people are there in the picture, and what are they doing?",
    "What is the highest value of all the bars that are shown in this chart?",
    "Answer the question with the option's letter from the given choices directly.",
    "この画像には何が写っていますか。詳しく説明してください。",
]
WORDS = {
    "tune": {
        "who": ["Anna", "Boris", "Clara", "Dmitri", "Elena", "Farid", "Greta", "Hugo", "Irene", "Jonas"],
        "what": [
            "apples",
            "paper boats",
            "wooden chairs",
            "postcards",
            "lamps",
            "tickets for the zoo",
            "loaves of bread",
            "kites",
        ],
        "where": ["at the harbour", "in the old school", "near the bridge", "behind the station", "on the market"],
        "when": ["on Monday morning", "after the rain", "before the holidays", "in early spring", "late at night"],
        "誰": ["太郎", "花子", "健一", "美咲", "翔太", "由美", "直樹", "恵子"],
        "物": ["りんご", "鉛筆", "ノート", "切手", "みかん", "折り紙", "本", "傘"],
        "所": ["駅前の店", "学校", "市場", "図書館", "公園", "港"],
    },
    "test": {
        "who": ["Kofi", "Lena", "Marco", "Nadia", "Oscar", "Petra", "Quentin", "Rosa", "Stefan", "Tamara"],
        "what": [
            "oranges",
            "tin soldiers",
            "garden hoses",
            "stamps",
            "candles",
            "seats in the theatre",
            "jars of honey",
            "drums",
        ],
        "where": ["by the river", "in the new hospital", "under the tower", "beside the museum", "in the valley"],
        "when": ["on Friday evening", "during the storm", "after the concert", "in late autumn", "around noon"],
        "誰": ["次郎", "桜", "大輔", "愛", "拓也", "真理", "和夫", "洋子"],
        "物": ["梨", "消しゴム", "手帳", "葉書", "ぶどう", "風船", "皿", "帽子"],
        "所": ["商店街", "病院", "美術館", "体育館", "山小屋", "空港"],
    },
}


class One(NamedTuple):
    """A sample to be, and what kind of leak it is."""

    kind: str
    question: str
    answer: str
    images: tuple[bytes, ...] = ()


# ---- texts


def story(rng: random.Random, half: str) -> str:
    """Some sentences and a question, as school books have them."""
    said = WORDS[half]

    def pick(kind: str) -> str:
        return rng.choice(said[kind])

    n = lambda: rng.randint(3, 400)  # noqa: E731
    forms: list[Callable[[], str]] = [
        lambda: f"{pick('who')} bought {n()} {pick('what')} {pick('where')} {pick('when')}.",
        lambda: f"{pick('when').capitalize()}, {pick('who')} gave {n()} of the {pick('what')} to {pick('who')}.",
        lambda: f"There were {n()} {pick('what')} {pick('where')}, and {pick('who')} took {n()} of them home.",
        lambda: f"Each of the {pick('what')} costs {n()} cents {pick('where')}, but {pick('who')} pays {n()}.",
    ]
    ends = [
        lambda: f"How many {pick('what')} does {pick('who')} have {pick('when')}?",
        lambda: f"How much more than {pick('who')} did {pick('who')} pay for the {pick('what')}?",
    ]
    return " ".join([*(rng.choice(forms)() for _ in range(rng.randint(2, 4))), rng.choice(ends)()])


def japanese(rng: random.Random, half: str) -> str:
    """The same in Japanese."""
    said = WORDS[half]

    def pick(kind: str) -> str:
        return rng.choice(said[kind])

    n = lambda: rng.randint(3, 900)  # noqa: E731
    forms: list[Callable[[], str]] = [
        lambda: f"{pick('誰')}さんは{pick('所')}で{pick('物')}を{n()}個買い、{pick('誰')}さんに{n()}個あげました。",
        lambda: f"{pick('所')}では{pick('物')}が一つ{n()}円ですが、{pick('誰')}さんはいつも{n()}円で手に入れています。",
        lambda: f"きのう{pick('誰')}さんが{pick('所')}に置いてきた{pick('物')}のうち、{n()}個がなくなっていました。",
        lambda: f"{pick('物')}を{n()}個ずつ箱に入れ、{pick('誰')}さんと{pick('誰')}さんが{pick('所')}へ運びました。",
    ]
    ends = [
        lambda: f"{pick('誰')}さんが今持っている{pick('物')}は全部で何個でしょうか。",
        lambda: f"{pick('物')}の代金として{pick('誰')}さんは{pick('誰')}さんよりいくら多く払いましたか。",
    ]
    return "".join([*(rng.choice(forms)() for _ in range(rng.randint(2, 4))), rng.choice(ends)()])


def restyled(text: str, rng: random.Random) -> str:
    """Other case, white space and punctuation."""
    cased = rng.choice([str.upper, str.lower, str.title, str])(text)
    spaced = "".join(rng.choice([" ", "  ", "\n"]) if character == " " else character for character in cased)
    return re.sub(r"[,.?、。]", lambda mark: rng.choice(["", mark[0], " ;", "!"]), spaced)


def embedded(text: str, rng: random.Random, half: str) -> str:
    return f"{story(rng, half)}\n\n{text}\nA. {rng.randint(2, 9)}\nB. {rng.randint(10, 99)}\n{rng.choice(GENERIC)}"


def renumbered(text: str, rng: random.Random) -> str:
    """Another number: another question."""
    one = rng.choice(list(re.finditer(r"\d+", text)))
    return f"{text[: one.start()]}{int(one[0]) + rng.randint(1, 9)}{text[one.end() :]}"


def renamed(text: str, half: str) -> str:
    """Another name where the first one stands."""
    names = [name for kind in ("who", "誰") for name in WORDS[half][kind] if name in text]
    return text.replace(names[0], "Wilhelmina" if names[0].isascii() else "桃太郎", 1)


# ---- pictures


def scene(rng: np.random.Generator, half: str) -> Image.Image:
    """A picture of one of the half's kinds."""
    kinds = {"tune": (_blobs, _bars), "test": (_waves, _page)}[half]
    return kinds[int(rng.integers(len(kinds)))](rng)


def _blobs(rng: np.random.Generator) -> Image.Image:
    image = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((480, 360), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(8):
        x, y = (int(v) for v in rng.integers(0, 400, 2))
        draw.ellipse((x, y, x + 80, y + 60), fill=tuple(int(v) for v in rng.integers(0, 256, 3)))
    return image


def _bars(rng: np.random.Generator) -> Image.Image:
    image = Image.new("RGB", (480, 360), "white")
    draw = ImageDraw.Draw(image)
    draw.line((40, 20, 40, 330, 460, 330), fill="black", width=2)
    for number, height in enumerate(rng.integers(20, 300, 7).tolist()):
        draw.rectangle((55 + 58 * number, 330 - height, 95 + 58 * number, 330), fill=(40, 90, 190))
        draw.text((60 + 58 * number, 335), str(height), fill="black")
    return image


def _waves(rng: np.random.Generator) -> Image.Image:
    y, x = np.mgrid[0:360, 0:480] / 60
    a, b, c, d = rng.uniform(0.3, 3, 4)
    planes = [np.sin(a * x + k * b) * np.cos(c * y - k * d) for k in range(3)]
    return Image.fromarray(
        (np.stack(planes, -1) * 100 + 128 + rng.normal(0, 6, (360, 480, 3))).clip(0, 255).astype(np.uint8)
    )


def _page(rng: np.random.Generator) -> Image.Image:
    image = Image.new("RGB", (420, 560), (250, 249, 244))
    draw = ImageDraw.Draw(image)
    for line in range(22):
        words = ["".join(chr(97 + int(k)) for k in rng.integers(0, 26, int(rng.integers(2, 9)))) for _ in range(8)]
        draw.text((30, 30 + 23 * line), " ".join(words)[: int(rng.integers(25, 55))], fill=(20, 20, 20))
    return image


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def edits(image: Image.Image, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Kinds of change that a picture goes through on its way into a training set."""
    yield "picture, JPEG 30-95", saved(image, "JPEG", quality=rng.randint(30, 95))
    scale = rng.uniform(0.25, 2)
    size = (round(image.width * scale), round(image.height * scale))
    yield "picture, resized 0.25-2", saved(image.resize(size, Image.Resampling.LANCZOS), "WEBP", quality=90)
    cut = [rng.uniform(0.005, 0.03) for _ in range(4)]
    w, h = image.size
    box = (round(w * cut[0]), round(h * cut[1]), round(w * (1 - cut[2])), round(h * (1 - cut[3])))
    yield "picture, cropped up to 3 %", saved(image.crop(box), "JPEG", quality=90)


# ---- the trial


def made(half: str, each: int, clean: int) -> tuple[list[One], list[One]]:
    """The benchmark's samples, and samples of which some leak ("clean ..." are those that don't)."""
    rng, draw = random.Random(f"{half} leaks"), np.random.default_rng([each, half == "test"])
    bench: list[One] = []
    train: list[One] = []
    for number in range(each):
        image, question = scene(draw, half), GENERIC[number % len(GENERIC)]
        bench.append(One("", question, "B", (saved(image),)))
        train += [One(kind, "Tell me more of it.", "Gladly.", (data,)) for kind, data in edits(image, rng)]
        train += [One("clean: another picture", question, "B", (saved(scene(draw, half)),)) for _ in range(clean)]
        for write, language in ((story, "English"), (japanese, "Japanese")):
            text = write(rng, half)
            bench.append(One("", text, str(number)))
            train.append(One(f"{language}, restyled", restyled(text, rng), "It is 7."))
            train.append(One(f"{language}, inside a longer one", embedded(text, rng, half), "It is 7."))
            train.append(One(f"clean: {language}, another number", renumbered(text, rng), "It is 7."))
            train += [One(f"clean: {language}, same grammar", write(rng, half), "It is 7.") for _ in range(clean)]
            train.append(One(f"near: {language}, another name", renamed(text, half), "It is 7."))
            about = write(rng, half)
            bench.append(One("", about, str(number), (saved(scene(draw, half)),)))
            train.append(One(f"near: {language}, without its picture", about, "It is 7."))
    return bench, train


def table(name: str, ones: list[One]) -> pa.Table:
    """SAMPLE rows as ingest makes them."""
    rows = []
    for number, one in enumerate(ones):
        marks = [{"type": "image", "text": None} for _ in one.images]
        turns = [("user", [*marks, {"type": "text", "text": one.question}])]
        turns.append(("assistant", [{"type": "text", "text": one.answer}]))
        messages = [{"role": role, "content": content} for role, content in turns]
        infos = [asdict(inspect(data, 10**8)) for data in one.images]
        rows.append({"sample_id": f"{name}/x#{number}", "source": name, "messages": messages, "image_info": infos})
    return pa.Table.from_pylist(rows, SAMPLE)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--half", choices=("tune", "test"), default="test")
    words.add_argument("--each", type=int, default=100, help="samples of the benchmark of each kind")
    words.add_argument("--clean", type=int, default=5, help="clean samples of each kind for each of them")
    given = words.parse_args()
    bench, train = made(given.half, given.each, given.clean)
    params, rows = DecontaminateParams(), table("train", train)
    start = time.process_time()
    files = {f"bench/x#{number}": one.images for number, one in enumerate(bench)}
    images = lambda names: {name: files[name] for name in names}  # noqa: E731
    index = load(params, Assets(benchmarks=table("bench", bench), images=images))
    loaded = time.process_time()
    mine = lambda numbers: {number: train[number].images for number in numbers}  # noqa: E731
    verdict = DECONTAMINATE.verdicts(rows, params, (index, mine))
    judged = time.process_time()
    flagged, count = Counter[str](), Counter(one.kind for one in train)
    for one, reason in zip(train, verdict["reason"].to_pylist(), strict=True):
        flagged[one.kind] += reason is not None
    print(f"{given.half} half, {len(bench):,} samples of benchmarks, {len(train):,} others")
    for kind in sorted(count):
        print(f"{kind:<44} {flagged[kind]:>6,} of {count[kind]:>6,} flagged  {flagged[kind] / count[kind]:7.2%}")
    for what, wanted in (("planted leaks found", False), ("clean samples flagged", True)):
        kinds = [kind for kind in count if kind.startswith("clean") is wanted and not kind.startswith("near")]
        share = sum(flagged[kind] for kind in kinds) / sum(count[kind] for kind in kinds)
        print(f"{what:<44} {share:.2%}")
    each = (judged - loaded) / len(train) * 1000
    print(f"index {loaded - start:.2f} s of CPU with the images' description, judging {each:.3f} ms with files")


if __name__ == "__main__":
    main()
