"""Near texts: enough n-grams in common, the same numbers, roles and short turns; and never more than that."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.duplicates.candidates import CANDIDATES
from stages.duplicates.params import DedupeParams, TextMatch
from stages.stage import counts
from tests.stages.deduped import deduped, near_texts
from tests.stages.pictures import encoded, photo, sample, table, talk

WORDS = [f"{a}{b}{c}" for a in "bdfgkl" for b in "aeiou" for c in "mnrst"]
KANA = "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわをん学習画像言語東京"
PNG = encoded(photo(1))


def prose(seed: int, words: int = 120) -> list[str]:
    rng = random.Random(seed)
    return [rng.choice(WORDS) for _ in range(words)]


def edited(words: list[str], *places: int) -> list[str]:
    return ["zzz" if number in places else word for number, word in enumerate(words)]


def said(name: str, *turns: str, **fields: Any) -> dict[str, Any]:
    roles = ("user", "assistant") * 9
    return sample(name, messages=talk(*zip(roles, turns, strict=False)), **fields)


def judged(*samples: dict[str, Any], **params: Any) -> dict[str, tuple[Any, Any]]:
    """sample_id -> (reason, Jaccard similarity to one hundredth). The first one of duplicates stays, by its source."""
    rows = deduped(*map(table, samples), params=DedupeParams(**params)).to_pylist()
    return {row["sample_id"]: (row["reason"], row["jaccard"] and round(row["jaccard"], 2)) for row in rows}


def near(left: dict[str, Any], right: dict[str, Any], **params: Any) -> bool:
    return judged(left, right, **params)[right["sample_id"]][0] == "near_duplicate"


TEXT = prose(1)
QUESTION = "Tell me what you know of it"


@pytest.mark.parametrize("unit", ["sample", "text"])
def test_a_text_with_a_word_changed_is_near_and_says_how_near(unit: str) -> None:
    other = said("b", QUESTION, " ".join(edited(TEXT, 60)))
    found = judged(said("a", QUESTION, " ".join(TEXT)), other, said("c", QUESTION, " ".join(prose(2))), unit=unit)
    # 116 n-grams, of which the changed word is in five
    assert found == {"a": (None, None), "b": ("near_duplicate", round(111 / 121, 2)), "c": (None, None)}


def test_texts_are_near_only_where_the_recipe_says_so() -> None:
    left, right = said("a", QUESTION, " ".join(TEXT)), said("b", QUESTION, " ".join(edited(TEXT, 60)))
    assert near(left, right, text=TextMatch(jaccard=0.9)) and not near(left, right, text=TextMatch(jaccard=0.95))
    assert not near(left, right, text=TextMatch(jaccard=1)) and not near(left, right, unit="image")
    copy = said("b", QUESTION.upper(), " ".join(TEXT))
    for params in ({"unit": "text"}, {"unit": "sample", "text": TextMatch(jaccard=1)}, {"unit": "image"}):
        assert judged(left, copy, **params)["b"] == ("duplicate", 1.0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("12", "13"),
        ("1", "11"),
        ("1,000", "1000"),
        ("３", "4"),
        ("三", "四"),
        ("3", "three"),
        ("٣", "٤"),
        ("two", "seven"),
        ("x²", "x2"),
    ],
)
def test_texts_that_differ_in_a_digit_are_never_near(one: str, other: str) -> None:
    sides = [" ".join([*prose(3, 400), number, *prose(4, 400)]) for number in (one, other)]
    assert not near(said("a", QUESTION, sides[0]), said("b", QUESTION, sides[1]))
    same = [" ".join([*edited(prose(3, 400), place), one, *prose(4, 400)]) for place in (100, 300)]
    assert near(said("a", QUESTION, same[0]), said("b", QUESTION, same[1]))


def test_numbers_in_another_order_or_in_another_turn_are_other_numbers() -> None:
    long = " ".join(prose(5, 300))
    assert not near(said("a", f"1 {long} 2", long), said("b", f"2 {long} 1", long))
    assert not near(said("a", f"{long} 7", long), said("b", long, f"{long} 7"))


def test_a_short_turn_must_be_equal() -> None:
    question = " ".join(TEXT)
    for answers in (("yes", "no"), ("Option A", "Option B"), ("", "no")):
        assert not near(said("a", question, answers[0]), said("b", f"{question} or", answers[1]))
        assert near(said("a", question, answers[0]), said("b", f"{question} or", f" {answers[0].upper()}"))
    assert judged(said("a", "yes", "no"), said("b", "Yes ", "no"), said("c", "yes", "on"))["b"][0] == "duplicate"


def test_every_turn_must_be_near_and_not_only_all_together() -> None:
    long, short = " ".join(prose(6, 2000)), prose(7, 12)
    assert not near(said("a", long, " ".join(short)), said("b", long, " ".join(edited(short, 6))))


def test_the_same_words_of_another_role_are_another_text() -> None:
    text, reply = " ".join(TEXT), " ".join(prose(8))
    other = sample("b", messages=talk(("assistant", text), ("user", reply)))
    system = sample("c", messages=talk(("system", text), ("user", text), ("assistant", reply)))
    found = judged(said("a", text, reply), other, system, said("d", f"{text} {reply}"), said("e", reply, text))
    assert {reason for reason, _ in found.values()} == {None}


def test_japanese_is_compared_by_characters() -> None:
    rng = random.Random(9)
    text = "".join(rng.choice(KANA) for _ in range(200))
    changed, other = text[:100] + "猫" + text[101:], "".join(rng.choice(KANA) for _ in range(200))
    found = judged(said("a", QUESTION, text), said("b", QUESTION, changed), said("c", QUESTION, other))
    assert found == {"a": (None, None), "b": ("near_duplicate", round(191 / 201, 2)), "c": (None, None)}


def test_samples_with_pictures_take_no_part_where_the_unit_is_text() -> None:
    text = " ".join(TEXT)
    for fields in ({}, {"answer": text}):
        copies = [sample("a", [PNG], **fields), sample("b", [PNG], **fields), sample("c", **fields)]
        assert {reason for reason, _ in judged(*copies, unit="text").values()} == {None}
    shown = [sample("a", [PNG], answer=text), sample("b", [PNG], answer=" ".join(edited(TEXT, 60)))]
    assert {reason for reason, _ in judged(*shown).values()} == {None}  # about pictures texts must be equal


def test_the_similarity_told_is_that_of_the_way_to_the_one_that_stays() -> None:
    """a ~ b ~ c, and a and c are too far apart: c is told the weaker of the two steps on its way to a."""
    chain = [edited(TEXT, *places) for places in ((), (60,), (60, 119))]
    texts = [said(name, QUESTION, " ".join(words)) for name, words in zip("abc", chain, strict=True)]
    found = judged(*texts, text=TextMatch(jaccard=0.91))
    similarity = round(111 / 121, 2)
    assert found["a"][0] is None and {found[name][0] for name in "bc"} == {"near_duplicate"}
    assert found["c"][1] == found["b"][1] == similarity


def test_many_texts_that_are_alike_make_few_pairs() -> None:
    texts = table(*(said(f"{n:03}", QUESTION, " ".join(edited(prose(1, 400), n))) for n in range(150)))
    found = near_texts(texts, params=DedupeParams())
    assert found.candidates.schema == CANDIDATES
    assert found.candidates.num_rows < 20 * 3 * 150 // 4  # of 11,175 pairs
    verdict = deduped(texts)
    assert counts(verdict).kept == 1


def test_copies_of_a_text_make_a_pair_each_and_no_candidates() -> None:
    texts = table(*(said(f"{n:03}", QUESTION, " ".join(TEXT)) for n in range(50)))
    assert near_texts(texts, params=DedupeParams()).candidates.num_rows == 0
    assert counts(deduped(texts)).dropped == {"duplicate": 49}


def test_what_is_apart_by_a_number_or_too_few_ngrams_is_a_near_miss_that_says_why() -> None:
    base = prose(10, 300)
    texts = [said("a", QUESTION, " ".join([*base, "1"])), said("b", QUESTION, " ".join([*base, "2"]))]
    (outcome,) = near_texts(table(*texts), params=DedupeParams()).outcomes
    assert outcome.why == "numbers" and outcome.jaccard == 296 / 298
    turns = [said("a", QUESTION, " ".join(base)), said("b", "Say", " ".join(base))]
    assert {one.why for one in near_texts(table(*turns), params=DedupeParams()).outcomes} <= {"turns"}
    few = [said("a", QUESTION, " ".join(base)), said("b", QUESTION, " ".join(edited(base, 9, 50, 90, 150)))]
    whys = [one.why for one in near_texts(table(*few), params=DedupeParams(text=TextMatch(jaccard=0.9))).outcomes]
    assert whys == ["jaccard"]


POOL = [
    *(said(f"near/{n}", QUESTION, " ".join(edited(TEXT, *([] if n == 0 else [n * 20])))) for n in range(5)),
    *(said(f"digit/{n}", QUESTION, " ".join([*TEXT, str(n)])) for n in range(3)),
    *(said(f"copy/{n}", QUESTION, " ".join(prose(11))) for n in range(3)),
    said("short/0", "yes", "no"),
    said("short/1", "yes", "yes"),
    sample("picture", [PNG], answer=" ".join(TEXT)),
]


@given(
    st.permutations(range(len(POOL))),
    st.lists(st.integers(0, len(POOL)), max_size=3),
    st.sets(st.sampled_from([one["sample_id"] for one in POOL])),
    st.integers(1, 9),
    st.sampled_from(["sample", "text"]),
)
@settings(max_examples=40, deadline=None)
def test_who_stays_depends_on_no_order_part_or_bucket(
    order: list[int], cuts: list[int], dropped: set[str], buckets: int, unit: Any
) -> None:
    chosen, edges = [POOL[number] for number in order], [0, *sorted(cuts), len(POOL)]
    parts = [table(*chosen[a:b]) for a, b in itertools.pairwise(edges)]
    params = DedupeParams(unit=unit, prefer=())
    verdict = deduped(*parts, params=params, dropped=dropped, buckets=buckets)
    found = {row["sample_id"]: (row["reason"], row["kept_id"]) for row in verdict.to_pylist()}
    assert counts(verdict).rows_in == len(POOL)
    alike: dict[str, set[str]] = {}
    for name in found:
        group = name.split("/")[0]
        alike.setdefault(group if group in ("near", "copy") else name, set()).add(name)
    for names in alike.values():
        alive = names - dropped
        assert sum(found[name][0] is None for name in alive) == min(1, len(alive))
    assert all(found[kept][0] is None and kept not in dropped for _, kept in found.values() if kept)
    if not dropped:
        assert {n for n, row in found.items() if row[0] is None} == {
            row["sample_id"] for row in deduped(table(*POOL), params=params).to_pylist() if row["reason"] is None
        }


@given(st.integers(1, 9), st.lists(st.integers(0, len(POOL)), max_size=3))
@settings(max_examples=15, deadline=None)
def test_the_pairs_are_the_same_however_rows_are_cut_and_exchanged(buckets: int, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(POOL)]
    parts = [table(*POOL[a:b]) for a, b in itertools.pairwise(edges)]
    params = DedupeParams()

    def names(pairs: pa.Table) -> set[tuple[str, str, float]]:
        return {(row["left_sample_id"], row["right_sample_id"], row["jaccard"]) for row in pairs.to_pylist()}

    cut = near_texts(*parts, params=params, buckets=buckets)
    assert names(cut.pairs) == names(near_texts(table(*POOL), params=params).pairs) != set()


@pytest.mark.parametrize("key", ["bands", "rows", "ngram", "jaccard"])
def test_keys_are_checked(key: str) -> None:
    with pytest.raises(ValueError, match=f"{key}: got 0, wanted"):
        TextMatch(**{key: 0})
