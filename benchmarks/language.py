"""How often the language of a text is found, on real text in twenty languages that nobody wrote for this.

    python -m benchmarks.language /usr/share/locale FOLDER ... [--half tune] [--languages de fr] [--each 200]

The folders hold what benchmarks/multilingual.py can read: gettext catalogues (of the system, of an unpacked wheel),
test texts of CLD2 and CLD3, spaCy's examples, conversations. Thresholds are chosen on the tuning half; the test half is
for the numbers that are told. Of each language and length the same number of texts is taken, chosen by their hash.

Columns: texts of that length; `right`: share whose language is found, with lid.176 alone on the raw text beside it;
`told`: share that the default rules are sure enough of to drop by; `wrong of told`: share of these that is wrong, the
samples that a filter loses or lets in by mistake; Japanese taken for Chinese and the other way round. Apart from these,
every run of four Han characters and more that stands in a Japanese or a Chinese text.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from benchmarks.multilingual import Text, texts
from schemas.sample import SAMPLE
from stages.filters.detect import Found, detect
from stages.filters.language import LanguageParams, bundled_model, judge, load
from stages.stage import Assets

TWENTY = "ar cs de en es fa fr hi id it ja ko nl pl pt ru th tr vi zh"
_HAN = re.compile("[\u3400-\u9fff]{4,}")
LENGTHS = ((20, 50), (50, 200), (200, 10**9))


class Answer(NamedTuple):
    text: Text
    found: Found
    bare: str  # what lid.176 says of the raw text
    told: bool

    @property
    def right(self) -> bool:
        return self.found.language == self.text.language


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("folders", nargs="+", type=Path)
    words.add_argument("--half", choices=("tune", "test"), default="test")
    words.add_argument("--languages", nargs="+", default=TWENTY.split())
    words.add_argument("--each", type=int, default=200, help="texts of each language and length")
    words.add_argument("--wrong", type=int, default=0, help="show so many of the mistakes of each kind")
    given = words.parse_args()
    model = load(LanguageParams(("en",)), Assets({"language_model": bundled_model()}))
    found = [text for text in texts(given.folders) if text.half == given.half]
    chosen = _chosen(found, set(given.languages), given.each)
    answers = [_answer(text, model) for text in chosen]
    print(f"{given.half} half, {len(answers):,} texts of {len({a.text.language for a in answers})} languages")
    _print_lengths(answers)
    _print_languages(answers, given.wrong)
    if {"ja", "zh"} <= set(given.languages):
        _print_han(found, model)
    _print_time(chosen, model)


def _chosen(found: Iterable[Text], languages: set[str], each: int) -> list[Text]:
    """So many of each language and length, by the hash of the text."""
    groups = defaultdict[tuple[str, int], list[Text]](list)
    for text in found:
        if text.language in languages and len(text.text) >= LENGTHS[0][0]:
            groups[text.language, _length(text.text)].append(text)
    return [text for key in sorted(groups) for text in sorted(groups[key], key=_hash)[:each]]


def _hash(text: Text) -> str:
    return hashlib.sha256(text.text.encode("utf-8", "replace")).hexdigest()


def _length(text: str) -> int:
    return next(number for number, (low, high) in enumerate(LENGTHS) if low <= len(text) < high)


def _answer(text: Text, model: Any) -> Answer:
    found, rules = detect(text.text, model), LanguageParams(("en",))
    told = found.confidence >= rules.min_confidence and (found.by_script or found.characters >= rules.min_characters)
    labels, _ = model.predict(_line(text.text), k=1)
    return Answer(text, found, labels[0].removeprefix("__label__") if labels else "", told)


def _line(text: str) -> str:
    return " ".join(text.split()).encode("utf-8", "replace").decode()


def _print_lengths(answers: list[Answer]) -> None:
    print(
        f"{'characters':12}{'texts':>8}{'right':>9}{'lid.176':>9}{'told':>9}{'wrong of told':>15}{'ja/zh confused':>16}"
    )
    for low, high in (*LENGTHS, (LENGTHS[0][0], LENGTHS[-1][1])):
        mine = [a for a in answers if low <= len(a.text.text) < high]
        told, both = [a for a in mine if a.told], [a for a in mine if a.text.language in ("ja", "zh")]
        name = f"{low}-{high}" if high < 10**9 else f"{low} or more"
        shares = [_share(mine, lambda a: a.right), _share(mine, lambda a: a.bare == a.text.language)]
        shares += [_share(mine, lambda a: a.told), _share(told, lambda a: not a.right)]
        shares += [_share(both, lambda a: not a.right and a.found.language in ("ja", "zh"))]
        widths = (9, 9, 9, 15, 16)
        print(
            f"{name:12}{len(mine):>8,}" + "".join(f"{share:>{w}.2%}" for share, w in zip(shares, widths, strict=True))
        )


def _share(answers: list[Answer], holds: Callable[[Answer], bool]) -> float:
    return sum(map(holds, answers)) / max(1, len(answers))


def _print_languages(answers: list[Answer], wrong: int) -> None:
    languages = sorted({a.text.language for a in answers})
    shares = {code: _share([a for a in answers if a.text.language == code], lambda a: a.right) for code in languages}
    print("right by language: " + ", ".join(f"{code} {share:.1%}" for code, share in shares.items()))
    mistakes = Counter((a.text.language, a.found.language) for a in answers if not a.right)
    print("taken for another: " + ", ".join(f"{a} for {b} {n}" for (a, b), n in mistakes.most_common(12)))
    for kind in mistakes:
        for answer in [a for a in answers if (a.text.language, a.found.language) == kind][:wrong]:
            print(f"  {kind[0]} for {kind[1]}, {answer.found.confidence:.2f}: {answer.text.text[:100]!r}")


def _print_han(found: list[Text], model: Any) -> None:
    """Japanese without kana is rare as a text and common inside of one, so the runs of Han are taken out of texts."""
    for language in ("ja", "zh"):
        runs = {run for text in found if text.language == language for run in _HAN.findall(text.text)}
        ours = Counter(detect(run, model).language for run in runs)
        bare = Counter(model.predict(run, k=1)[0][0].removeprefix("__label__") for run in runs)
        told = ", ".join(
            f"{code} {ours[code] / len(runs):.2%} ({bare[code] / len(runs):.2%})" for code in ("ja", "zh", "und")
        )
        print(f"{language} in Han alone, {len(runs):,} runs: {told}; in brackets lid.176")


def _print_time(chosen: list[Text], model: Any) -> None:
    """CPU time of the filter for samples of one question and one answer, beside the model's alone on the raw text."""
    pairs = list(zip(chosen[::2], chosen[1::2], strict=False))
    rows = [{"messages": _talk(a.text, b.text), "source": "a", "declared_language": None} for a, b in pairs]
    names = ("messages", "source", "declared_language")
    table = pa.Table.from_pylist(rows, pa.schema([SAMPLE.field(name) for name in names]))
    start = time.process_time()
    judge(table, LanguageParams(("en",)), model)
    ours = time.process_time() - start
    start = time.process_time()
    for a, b in pairs:
        model.predict(_line(f"{a.text} {b.text}"), k=1)
    bare = time.process_time() - start
    each = sum(len(a.text) + len(b.text) for a, b in pairs) / len(pairs)
    print(
        f"CPU time of a sample ({each:.0f} characters on the average): {ours / len(pairs) * 1e6:.0f} us, "
        f"lid.176 alone {bare / len(pairs) * 1e6:.0f} us"
    )


def _talk(question: str, answer: str) -> list[dict[str, Any]]:
    turns = (("user", question), ("assistant", answer))
    return [{"role": role, "content": [{"type": "text", "text": text}], "loss": None} for role, text in turns]


if __name__ == "__main__":
    main()
