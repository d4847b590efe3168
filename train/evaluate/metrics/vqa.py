"""VQA accuracy: how many of the people who were asked gave the same answer, after the EvalAI server's normaliser.

Antol et al. 2015 and the evaluation of VQAv2, with the normaliser in the form that TextVQA's challenge, Pythia and
lmms-eval use: lower case, punctuation, articles, number words and lost apostrophes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_ENOUGH = 3  # people who agree

_ARTICLES = {"a", "an", "the"}
_NUMBERS = {"none": "0"} | {
    word: str(value)
    for value, word in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    )
}
_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_PERIOD = re.compile(r"\.(?!\d)")

# A word that lost an apostrophe gets it back: one of its apostrophes at a time.
_CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd
he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've
needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've
somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll
that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've
weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll
why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""


def _lost(word: str) -> Iterator[tuple[str, str]]:
    for place in [match.start() for match in re.finditer("'", word)]:
        yield word[:place] + word[place + 1 :], word


_APOSTROPHES = {lost: word for whole in _CONTRACTED.split() for lost, word in _lost(whole)}
_APOSTROPHES["somebody'd"] = "somebodyd"  # so in the published table


def vqa_accuracy(answer: str, references: Sequence[str], options: Sequence[str] = ()) -> float:
    """The mean over the people of min(1, others who gave this answer / 3): each is left out in turn.

    With one or two references nobody could reach 1, so those count as what all ten people said.
    """
    del options
    given, people = normalised(answer), [normalised(text) for text in references]
    if len(people) < _ENOUGH:
        return float(given in people)
    agree = people.count(given)
    return sum(min(1.0, (agree - (one == given)) / _ENOUGH) for one in people) / len(people)


def normalised(text: str) -> str:
    """As EvalAI's server compares it."""
    plain = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    plain = _without_marks(plain.replace("\n", " ").replace("\t", " ").strip())
    words = [_NUMBERS.get(word, word) for word in plain.split()]
    return " ".join(_APOSTROPHES.get(word, word) for word in words if word not in _ARTICLES)


def _without_marks(text: str) -> str:
    """A mark goes where a space is beside one of its kind, else it becomes a space; periods go but before a digit."""
    marked = text
    for mark in _MARKS:
        beside = f"{mark} " in text or f" {mark}" in text
        marked = marked.replace(mark, "" if beside else " ")
    return _PERIOD.sub("", marked)
