"""A benchmark's question is found in whatever looks and company it comes; questions that everybody asks are no leak."""

from __future__ import annotations

import random
from typing import Any

import pytest

from stages.filters.decontaminate import DecontaminateParams
from stages.filters.leaked_text import TextMatch
from tests.stages.decontaminated import decontaminated, indexed
from tests.stages.pictures import encoded, photo, sample, table, talk

PROBLEM = (
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. "
    "How many clips did Natalia sell altogether in April and May, and how much more was it than the 30 of March?"
)
SOLUTION = (
    "In May she sold half of what she had sold in April, which is twenty four clips. Both months together are seventy "
    "two clips, and so it is forty two clips more than what she had sold in the month of March."
)
JAPANESE = (
    "太郎さんは店で一本120円の鉛筆を5本と、一冊180円のノートを何冊か買い、全部で1500円を払いました。"
    "ノートは何冊でしょうか。"
)
STEM = "Which of these rivers crosses the old border between both kingdoms in Anderson's map?"
SIGHT = (
    "The drawing shows a lever on two supports with a weight of 12 kg hung from its left end and a spring at the right "
    "end, which is pulled until the lever stands level. By how many centimetres is the spring longer than at rest?"
)
PICTURE = encoded(photo(1))
KEPT = (None, None)


def bench(*pairs: tuple[str, str], images: tuple[bytes, ...] = ()) -> Any:
    return table(*(sample(f"b/x#{n}", images, q, a, source="b") for n, (q, a) in enumerate(pairs)))


BENCH = bench((PROBLEM, SOLUTION), (JAPANESE, "5冊です。"), (STEM, "B"), ("What is it?", "No idea."))
BOOK = "What is the title of the book that lies on the table in this picture?"
SEEN = bench((SIGHT, "4"), (BOOK, "B"), images=(PICTURE,))


def judged(*samples: dict[str, Any], benchmarks: Any = BENCH, **text: Any) -> list[tuple[Any, Any]]:
    params = DecontaminateParams(text=TextMatch(**text))
    verdict = decontaminated(table(*samples), params, indexed(params, benchmarks))
    return [(row["reason"], row["benchmark_id"] if row["reason"] else None) for row in verdict.to_pylist()]


def asks(question: str, answer: str = "I see.", images: tuple[bytes, ...] = ()) -> dict[str, Any]:
    return sample("a", images, question, answer)


@pytest.mark.parametrize(("number", "question"), [(0, PROBLEM), (1, JAPANESE), (2, STEM)])
def test_a_question_is_found_whatever_its_looks_and_company(number: int, question: str) -> None:
    looks = [
        question,
        question.upper().replace(" ", "\n\n"),
        question.replace(",", " –").replace(".", " ;").replace("?", "").replace("、", "").replace("。", "!"),
        f"Answer in short.\n{question}\nA. one B. two\nLet us think step by step.",
    ]
    assert judged(*(asks(look) for look in looks)) == [("benchmark_question", f"b/x#{number}")] * len(looks)


def test_a_question_is_found_in_any_turn_and_in_plain_documents() -> None:
    long = sample("a", messages=talk(("user", "Hi."), ("assistant", "Hello."), ("user", PROBLEM), ("assistant", "72")))
    document = sample("b", messages=talk(("assistant", f"Exercise 7. {PROBLEM} Answer: 72.")))
    told = sample("c", messages=talk(("system", PROBLEM), ("user", "Now?"), ("assistant", "72")))
    assert judged(long, document, told) == [("benchmark_question", "b/x#0")] * 3


def test_a_text_that_is_cut_in_two_by_a_turn_is_not_found_across_it() -> None:
    start, end = STEM.split(" border ")
    assert judged(sample("a", messages=talk(("user", start + " border"), ("assistant", end)))) == [KEPT]


def test_another_number_is_another_question() -> None:
    changed = [PROBLEM.replace("48", "50"), PROBLEM.replace("30", "3"), JAPANESE.replace("180", "190")]
    assert judged(*map(asks, changed)) == [KEPT] * 3
    assert judged(asks(PROBLEM.replace("clips in May", "of them in May")))[0][0] == "benchmark_question"


def test_a_share_of_a_long_question_is_enough_and_says_how_much() -> None:
    params = DecontaminateParams()
    index = indexed(params, BENCH)
    part = asks(PROBLEM.replace("How many clips", "How many of them"))
    (row,) = decontaminated(table(part), params, index).to_pylist()
    assert (row["benchmark"], row["benchmark_id"], row["distance"]) == ("b", "b/x#0", None)
    assert row["overlap"] == pytest.approx(5 / 6) and row["words"] == 42
    assert judged(part, coverage=0.9) == [KEPT]
    (near,) = decontaminated(table(asks(STEM.replace("rivers", "roads"))), params, index).to_pylist()
    assert near["reason"] is None and near["overlap"] == 0.5 and near["benchmark_id"] == "b/x#2"
    assert judged(asks(STEM.replace("rivers", "roads")), coverage=0.5) == [("benchmark_question", "b/x#2")]


def test_questions_that_everybody_asks_are_no_leak() -> None:
    generic = [
        "What is the title of the book?",
        "Is there a dog in the image?",
        "What is it?",
        "Answer with the option's letter from the given choices directly.",
        "この画像に写っている動物は何ですか。",
        BOOK,
    ]
    benchmarks = bench(*((question, "Yes, there is.") for question in generic), images=(PICTURE,))
    assert judged(*(asks(question, "Yes, there is.") for question in generic), benchmarks=benchmarks) == [KEPT] * 6
    benchmarks = bench(*((question, "Yes, there is.") for question in generic[:5]))
    assert judged(*(asks(question, "Yes, there is.") for question in generic), benchmarks=benchmarks) == [KEPT] * 6


def test_a_question_about_a_picture_counts_only_where_it_is_long() -> None:
    assert judged(asks(SIGHT), benchmarks=SEEN) == [("benchmark_question", "b/x#0")]
    assert judged(asks(BOOK), benchmarks=SEEN) == [KEPT]
    assert judged(asks(BOOK), benchmarks=SEEN, min_words_with_image=15) == [("benchmark_question", "b/x#1")]
    assert judged(asks(BOOK), benchmarks=bench((BOOK, "B"))) == [("benchmark_question", "b/x#0")]


def test_the_picture_goes_before_the_text() -> None:
    assert judged(asks(SIGHT, images=(PICTURE,)), benchmarks=SEEN) == [("benchmark_image", "b/x#0")]


def test_how_a_benchmark_asks_is_no_evidence() -> None:
    rule = "Read the question with care, look at all of the options below it, and give the letter of the best of them."
    names = random.Random(1).sample(["oak", "ash", "elm", "fir", "yew", "box", "bay", "fig", "nut", "rue"], 10)
    rows = [(f"Is it {name}? {rule}", "A") for name in names]
    assert judged(asks(f"Is it a cat? {rule}"), asks(rows[0][0]), benchmarks=bench(*rows)) == [KEPT] * 2
    assert judged(asks(rows[0][0]), benchmarks=bench(*rows[:9])) == [KEPT]
    assert judged(asks(rows[0][0]), benchmarks=bench(*rows[:8])) == [("benchmark_question", "b/x#0")]
    long = bench(*rows, (f"{PROBLEM} {rule}", "A"))
    whole, bare, alone = asks(f"{PROBLEM} {rule}"), asks(PROBLEM), asks(f"{rule} {rule}")
    assert judged(whole, bare, alone, benchmarks=long) == [("benchmark_question", "b/x#10"), KEPT, KEPT]


def test_what_is_common_has_to_be_there_with_its_numbers() -> None:
    rule = "Read all of the options that stand below it and answer with the letter of the best in at most 30 words."
    rows = [(f"Is it {number}? {rule}", "A") for number in ["one", "two", "ten", *"abcdefg"]]
    benchmarks = bench(*rows, (f"{STEM} {rule}", "A"))
    assert judged(asks(f"{STEM} {rule}"), benchmarks=benchmarks) == [("benchmark_question", "b/x#10")]
    assert judged(asks(f"{STEM} {rule}".replace("30", "40")), benchmarks=benchmarks) == [KEPT]
    assert judged(asks(f"{STEM} {rule}".replace("in at most", "by")), benchmarks=benchmarks) == [KEPT]


def test_a_long_answer_counts_alone_and_a_shorter_one_with_its_question() -> None:
    assert judged(asks("Tell me.", f"Well: {SOLUTION}")) == [("benchmark_answer", "b/x#0")]
    question, answer = "Who wrote it, and in which year was that?", "It was written by the younger of both brothers."
    benchmarks = bench((question, answer))
    assert judged(asks(question, answer), benchmarks=benchmarks) == [("benchmark_question", "b/x#0")]
    assert judged(asks(question, "Nobody."), asks("Who?", answer), benchmarks=benchmarks) == [KEPT] * 2
    assert judged(asks(question, answer), benchmarks=benchmarks, min_words=18) == [("benchmark_question", "b/x#0")]
    assert judged(asks(question, answer), benchmarks=benchmarks, min_words=19) == [KEPT]
    some = SOLUTION.split(", which")[0] + ", and no more than that."
    assert judged(asks("Tell me.", some), benchmarks=bench(("What is it?", some))) == [KEPT]


def test_of_equals_the_first_is_named_and_of_others_the_nearest() -> None:
    assert judged(asks(PROBLEM), benchmarks=bench((PROBLEM, "1"), (PROBLEM, "2"))) == [("benchmark_question", "b/x#0")]
    near = PROBLEM.replace("How many clips", "How many of them")
    assert judged(asks(PROBLEM), benchmarks=bench((near, "1"), (PROBLEM, "2"))) == [("benchmark_question", "b/x#1")]


def test_text_can_be_switched_off() -> None:
    params = DecontaminateParams(text=None)
    index = indexed(params, SEEN)
    rows = table(asks(SIGHT), asks("Other?", images=(PICTURE,)))
    assert decontaminated(rows, params, index)["reason"].to_pylist() == [None, "benchmark_image"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"coverage": 0.0}, "coverage: got 0.0, wanted a share above 0"),
        ({"coverage": 1.1}, "coverage: got 1.1"),
        ({"ngram": 3}, "ngram: got 3, wanted at least 4"),
        ({"min_words": 7}, "min_words: got 7, wanted at least ngram, 8"),
        ({"ngram": 13, "min_words_with_image": 12}, "min_words_with_image: got 12"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TextMatch(**given)
