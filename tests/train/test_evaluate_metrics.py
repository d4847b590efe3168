"""The rules of scoring on hand-made cases, with what the benchmarks' own scorers and lmms-eval's say of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.evaluate.metrics import GRADED, RULES, choice, score, texts, vqa, yes_no

WORDS = st.text(alphabet="abc ", max_size=12)


@pytest.mark.parametrize(
    ("answer", "references", "wanted"),
    [
        (" Paris\n", ["paris"], 1),
        ("Paris.", ["paris"], 1),  # RealWorldQA's scorer cuts full stops, and no more
        ("Paris!", ["paris"], 0),
        ("St.", ["st."], 1),
        ("b", ["a", "B "], 1),
        ("", ["a"], 0),
    ],
)
def test_exact_match(answer, references, wanted):
    assert score("exact_match", answer, references) == wanted


@pytest.mark.parametrize(
    ("answer", "references", "wanted"),
    [
        ("the  Moon", ["The moon"], 1.0),
        ("moom", ["moon"], 0.75),
        ("abcd", ["abxy"], 0.5),  # 0.5 itself counts
        ("abc", ["axy"], 0.0),  # 1/3 is below the threshold
        ("jan 1", ["January 1", "Jan. 1"], 1 - 1 / 6),  # the best reference
        ("", ["x"], 0.0),
        ("kitten", ["sitting"], 1 - 3 / 7),
    ],
)
def test_anls(answer, references, wanted):
    assert score("anls", answer, references) == pytest.approx(wanted)


@given(WORDS, WORDS, WORDS)
def test_edits_are_a_distance(one, other, third):
    assert texts.edits(one, other) == texts.edits(other, one)
    assert (texts.edits(one, other) == 0) == (one == other)
    assert texts.edits(one, third) <= texts.edits(one, other) + texts.edits(other, third)
    assert abs(len(one) - len(other)) <= texts.edits(one, other) <= max(len(one), len(other))


@pytest.mark.parametrize(
    ("answer", "reference", "wanted"),
    [
        ("105", "100", 1),
        ("95", "100", 1),
        ("105.01", "100", 0),
        ("94.9", "100", 0),
        ("-10", "10", 0),
        ("40%", "0.4", 1),
        ("40%", "41%", 1),
        ("40", "40%", 0),
        ("2019", "2010", 1),  # years are numbers, as in the scorers
        ("0", "0", 1),
        ("0.0", "0", 0),  # a reference of 0 is met as text
        ("Yes", "yes", 1),
        ("Yes.", "yes", 0),
        ("1,000", "1000", 0),  # no number to float(), and no equal text
        ("nan", "5", 0),
        (" 12 ", "12", 1),
    ],
)
def test_relaxed_accuracy(answer, reference, wanted):
    assert score("relaxed_accuracy", answer, [reference]) == wanted
    assert score("relaxed_accuracy", answer, ["something else", reference]) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The two dogs", "2 dogs"),
        ("None", "0"),
        ("dont", "don't"),
        ("couldnt've", "couldn't've"),
        ("what's", "what 's"),
        ("1,000.5", "1000.5"),
        ("Yes.", "yes"),
        ("U.S.A.", "usa"),
        ("black/white", "black white"),
        ("black / white", "black white"),
        ("stop-sign", "stop sign"),
        ("blue-green - red", "bluegreen red"),  # one with a space beside it, and all of its kind go
        ("(red)", "red"),
        ("a\nb\tc", "b c"),
        ("somebody'd", "somebodyd"),
        ("who?", "who"),
        ('"hi" there', "hi there"),
        ("its shed", "its shed"),  # these lost nothing
    ],
)
def test_the_normaliser_of_evalai(text, wanted):
    assert vqa.normalised(text) == wanted


def test_vqa_accuracy_leaves_each_person_out_in_turn():
    people = ["red"] * 2 + ["blue"] * 8
    assert score("vqa_accuracy", "blue", people) == 1
    # two of ten: left out themselves one agrees (1/3), else two do (2/3)
    assert score("vqa_accuracy", "red", people) == pytest.approx((2 * 1 / 3 + 8 * 2 / 3) / 10)
    assert score("vqa_accuracy", "The Red.", people) == score("vqa_accuracy", "red", people)
    assert score("vqa_accuracy", "red", ["red"] * 3 + ["blue"] * 7) == pytest.approx((3 * 2 / 3 + 7) / 10)
    assert score("vqa_accuracy", "red", ["red"] + ["blue"] * 9) == pytest.approx(9 / 30)
    assert score("vqa_accuracy", "green", people) == 0
    assert score("vqa_accuracy", "red", ["red"]) == 1


@given(st.lists(st.sampled_from(["red", "blue", "2"]), min_size=3, max_size=10))
def test_vqa_accuracy_grows_with_those_who_agree(people):
    assert score("vqa_accuracy", "red", [*people, "red"]) >= score("vqa_accuracy", "red", [*people, "blue"])
    assert 0 <= score("vqa_accuracy", "red", people) <= 1


OPTIONS = ["red", "blue", "dark blue", "none of the above"]


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(B)", "B"),
        ("B.", "B"),
        ("**B**", "B"),
        ("$\\boxed{B}$", "B"),
        ("Ｂ", "B"),
        ("Answer: B", "B"),
        ("The answer is (B).", "B"),
        ("The correct option is B because the sky is B-coloured.", "B"),
        ("First I thought the answer is A. The answer is C", "C"),
        ("Answer: option B", "B"),
        ("答えはBです。", "B"),
        ("正解：C", "C"),
        ("正解はBです", "B"),
        ("B. red", "B"),
        ("B) blue", "B"),
        ("B: blue is the colour", "B"),
        ("I choose B", "B"),
        ("A car that is red", "A"),  # not by its article, by its text
        ("A car that is green", None),
        ("Red.", "A"),
        ("dark blue", "C"),
        ("The colour is red", "A"),
        ("It is dark blue", None),  # "blue" stands in it, too
        ("red or blue", None),
        ("A or B", None),
        ("A, B", None),
        ("Answer: A or B", None),
        ("Both A and B", None),
        ("I think that it is A or B", None),
        ("So A, I think, is right", "A"),
        ("答えはAかB", None),
        ("E", None),
        ("Answer: Z", None),
        ("", None),
        ("I don't know", None),
    ],
)
def test_the_letter_of_an_answer(answer, wanted):
    assert choice.letter(answer, OPTIONS) == wanted


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("B", 1),
        (" b\n", 1),
        ("B. red", 1),
        ("(B) red", 1),
        ("Option B", 1),
        ("The answer is B.", 1),
        ("The answer is (B).", 0),  # so in the published rule
        ("Blue", 1),  # so, too
        ("A", 0),
        ("I choose B", 0),
        ("", 0),
    ],
)
def test_the_first_letter_is_mmstars(answer, wanted):
    assert score("first_letter", answer, ["B"]) == wanted


def test_a_letter_is_right_if_it_is_one_of_the_right_ones():
    assert score("multiple_choice", "C", ["A", "C"], OPTIONS) == 1
    assert score("multiple_choice", "B", ["A", "C"], OPTIONS) == 0
    assert score("multiple_choice", "?", ["A"], OPTIONS) == 0


@pytest.mark.parametrize(
    ("answer", "reference", "wanted"),
    [
        ("12.50", "12.5", 1),
        ("The answer is 12.5", "12.5", 1),
        ("12.6", "12.5", 0),
        ("5", "0", 0),
        ("0.00", "0", 1),
        ("1" * 40, "3", 0),  # a model that doesn't stop
        ("9" * 400, "3", 0),
        ("It is iron oxide.", "Iron oxide", 1),
    ],
)
def test_a_question_without_options_is_open(answer, reference, wanted):
    assert score("multiple_choice", answer, [reference]) == wanted


@given(st.integers(1, 8), st.data())
def test_rotated_options_keep_their_right_ones(count, data):
    options = [f"option {number}" for number in range(count)]
    by = data.draw(st.integers(0, count - 1))
    right = data.draw(st.sampled_from(choice.LETTERS[:count]))
    (now,) = choice.moved([right], by, count)
    assert choice.rotated(options, by)[choice.LETTERS.index(now)] == options[choice.LETTERS.index(right)]


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("Yes", True),
        ("yes, there is. No doubt.", True),
        ("No", False),
        ("No, there is no dog", False),
        ("There is not", False),
        ("no.", False),
        ("NO!", False),
        ("いいえ、ありません", False),
        ("はい", True),
        ("Nothing like that", True),  # POPE's rule knows two words
        ("", True),
    ],
)
def test_what_is_yes(answer, wanted):
    assert yes_no.says_yes(answer) is wanted


def test_the_figures_of_pope():
    """3 right yes, 1 wrong yes, 2 missed, 4 right no."""
    pairs = [(True, True)] * 3 + [(True, False)] + [(False, True)] * 2 + [(False, False)] * 4
    found = yes_no.figures(pairs)
    assert found["accuracy"] == 0.7 and found["yes_ratio"] == 0.4
    assert found["precision"] == 0.75 and found["recall"] == 0.6
    assert found["f1"] == pytest.approx(2 * 0.75 * 0.6 / 1.35)
    assert yes_no.figures([(False, True)])["f1"] == 0


@pytest.mark.parametrize(
    ("answer", "reference", "wanted"),
    [
        ("The sign says\nSTOP HERE", "says stop", 1),
        ("ST OP", "stop", 0),
        ("$\\frac{1}{2}$", "\\frac { 1 } { 2 }", 1),
        ("$\\Frac{1}{2}$", "\\frac { 1 } { 2 }", 0),
        ("x+3=5", "x + 3 = 5", 1),
        ("anything", "", 0),
    ],
)
def test_contains(answer, reference, wanted):
    assert score("contains", answer, [reference]) == wanted


@pytest.mark.parametrize(
    ("answer", "reference", "wanted"),
    [
        ("So 3 + 4 = 7, and the answer is $1,018.00.", "He has 3.\n#### 1018", 1),
        ("18", "#### 18", 1),
        ("18 or 19", "18", 0),
        ("-5", "5", 0),
        ("−5", "-5", 1),
        ("none", "5", 0),
        ("It is .5", "0.5", 1),
    ],
)
def test_number(answer, reference, wanted):
    assert score("number", answer, [reference]) == wanted


@given(st.sampled_from([name for name, rule in RULES.items() if rule]), st.text(max_size=30), st.text(max_size=9))
def test_a_score_is_from_0_to_1_and_whole_unless_graded(metric, answer, reference):
    found = score(metric, answer, [reference], ["red", reference])
    assert 0 <= found <= 1
    assert metric in GRADED or found in (0, 1)


def test_a_judge_is_no_rule():
    assert score("judge", "a", ["a"]) is None
