"""Multiple choice: which option an answer means, and the same question with its options rotated.

From a model's free words to a letter, in this order, and the first that says anything decides:

    the answer is a letter        "B", "(b)", "B.", "**B**"
    it says which is the answer   "Answer: B", "the answer is (B)", "答えはBです"; of several the last
    it begins with a letter       "B. red", "B) red"
    one capital stands alone      "I choose B"; an A among more than three words is an article, an I a pronoun
    it is an option's text        "red."
    one option's text is in it    "The colour is red"

Two letters or two texts are no answer, and wrong. The rules on letters that stand alone and on texts are MMBench's (Liu
et al. 2023, `can_infer`), which then asks a language model, and MMMU's guesses by chance: here nothing is guessed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from string import ascii_uppercase as LETTERS

from train.evaluate.metrics.numeric import last_number
from train.evaluate.metrics.texts import exact_match

_AROUND = " \t\r\n*_`\"'“”‘’()[]{}<>$.,:;!?。、「」【】"
_BEFORE = ("", "(", "option ", "the answer is ")
_CLOSING = r"[\s*_`\"'“”’)\]}$]*"
_LETTER = r"[\s*_`\"'“‘(\[{$]*(?P<letter>[A-Z])(?![A-Za-z0-9'])"
_DECLARED = re.compile(
    r"(?:(?i:\b(?:answer|option|choice)\b)\s*(?i:is\b|would be\b|[:=])"
    r"|(?:答え|回答|解答|正解|正答|選択肢|答案)\s*[:はが是=]?)"
    r"(?:\s*(?i:option|choice|the)\b)?" + _LETTER
)
_LEADING = re.compile(_LETTER + r"[*_`\"'”\])}]*[.):、。]")
_ALONE = re.compile(r"(?<![A-Za-z0-9'.])([A-Z])(?![A-Za-z0-9'])")
_OTHER = re.compile(_CLOSING + r"(?:,|/|&|\+|\band\b|\bor\b|または|か|と|、)" + _LETTER)


def multiple_choice(answer: str, references: Sequence[str], options: Sequence[str] = ()) -> float:
    """1 if the letter that the answer means is among the references. A question without options is an open one."""
    if not options:
        return open_answer(answer, references)
    return float(letter(answer, options) in set(references))


def first_letter(answer: str, references: Sequence[str], options: Sequence[str] = ()) -> float:
    """1 if the answer begins with the right letter, whatever its case and whatever follows, or with a bracket, "option"
    or "the answer is" and then that letter: options that stand within the question, by MMStar's rule (Chen et al. 2024,
    its `exact_match`, which lmms-eval took over)."""
    del options
    said = " ".join(answer.lower().strip().split("\n"))
    return float(any(said.startswith(f"{before}{text.lower().strip()}") for text in references for before in _BEFORE))


def letter(answer: str, options: Sequence[str]) -> str | None:
    """The letter of the option that is meant; None if none is, or more than one."""
    text, known = unicodedata.normalize("NFKC", answer).strip(), LETTERS[: len(options)]
    bare = text.strip(_AROUND).upper()
    if len(bare) == 1 and bare in known:
        return bare
    for pattern in (_DECLARED, _LEADING):
        found = list(pattern.finditer(text)) if pattern is _DECLARED else [m for m in [pattern.match(text)] if m]
        if found:
            return _single(found[-1], text, known)
    if alone := _alone(text, known):
        return alone.pop() if len(alone) == 1 else None
    return _by_text(text, options)


def _single(found: re.Match[str], text: str, known: str) -> str | None:
    """The letter of a match, unless another is offered beside it or there is no such option."""
    meant = found["letter"]
    other = _OTHER.match(text, found.end("letter"))
    return meant if meant in known and (other is None or other["letter"] == meant) else None


def _alone(text: str, known: str) -> set[str]:
    """A word that another letter is offered beside is a letter, too."""
    found, is_short = [match for match in _ALONE.finditer(text) if match[1] in known], len(text.split()) <= 3
    return {match[1] for match in found if is_short or match[1] not in "AI" or _OTHER.match(text, match.end())}


def _by_text(answer: str, options: Sequence[str]) -> str | None:
    said, texts = _plain(answer), [_plain(option) for option in options]
    for found in (
        [number for number, text in enumerate(texts) if text == said],
        [number for number, text in enumerate(texts) if text and text in said],
    ):
        if found:
            return LETTERS[found[0]] if len(found) == 1 else None
    return None


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).lower().split()).strip(_AROUND)


def open_answer(answer: str, references: Sequence[str]) -> float:
    """MMMU's questions without options (its `eval_open`), more strictly: equal texts, equal numbers to two decimals, or
    the reference at the end of the answer, where MMMU looks for it after "is", "=" and other words."""
    return float(any(_open(answer, text) for text in references))


def _open(answer: str, reference: str) -> bool:
    if exact_match(answer, [reference]):
        return True
    wanted = _plain(reference)
    if re.fullmatch(r"[-−]?[\d,]*\.?\d+", wanted):
        numbers = last_number(answer), last_number(wanted)
        given, right = (None if number is None else round(float(number), 2) for number in numbers)
        return given is not None and given == right
    return bool(wanted) and re.search(rf"(?:^|\W){re.escape(wanted)}$", _plain(answer)) is not None


def rotated(options: Sequence[str], by: int) -> list[str]:
    """The options with the first `by` of them at the end."""
    return [*options[by:], *options[:by]]


def moved(references: Sequence[str], by: int, count: int) -> list[str]:
    """The letters of the right options after `rotated`. What is no letter of an option stays."""
    known = LETTERS[:count]
    return [LETTERS[(known.index(one) - by) % count] if len(one) == 1 and one in known else one for one in references]
