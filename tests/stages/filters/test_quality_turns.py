"""Turns that are removed, and samples that lose all: what stays is valid, and stays when judged again; none is lost."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import strict
from schemas.manifest import Counts, ManifestError
from stages.census import Model, count
from stages.chat import ChatFormat, ImageTokens
from stages.filters.quality import QUALITY, QualityParams
from stages.filters.rules.decide import decide
from stages.filters.rules.table import NO_TURN_LEFT, OF_TURNS
from stages.kept_turns import cut
from stages.pretokenise import pretokenise
from stages.rounds import grouped
from stages.shard_rows import PretokeniseParams
from stages.stage import check_verdict
from stages.tiles.internvl import InternVL
from stages.turn_ledger import turn_counts
from tests.stages.byte_tokenizer import byte_tokenizer
from tests.stages.pictures import joined, sample, table, talk
from tests.stages.test_kept_turns import rounds

ASK = ("user", "What?")


def params(**mapping: Any) -> QualityParams:
    return strict.build(QualityParams, mapping)


def verdict(chosen: QualityParams, *rows: dict[str, Any]) -> pa.Table:
    return QUALITY.verdicts(table(*rows), chosen, None)


def told(found: pa.Table) -> list[tuple[Any, Any, Any]]:
    gone = [
        None if row is None else [(one["turn"], one["reason"]) for one in row]
        for row in found["removed_turns"].to_pylist()
    ]
    return list(zip(found["reason"].to_pylist(), found["kept_turns"].to_pylist(), gone, strict=True))


def answers(*said: str, **fields: Any) -> dict[str, Any]:
    return sample("a", messages=talk(*(turn for one in said for turn in (ASK, ("assistant", one)))), **fields)


def test_a_rule_removes_turns_where_the_recipe_lists_its_reason() -> None:
    row = answers("yes", "", "a long answer")
    assert told(verdict(params(), row)) == [("empty_answer", None, None)]
    remove = {"turns": {"remove": ["empty_answer"]}}
    assert told(verdict(params(**remove), row)) == [(None, [0, 2], [(1, "empty_answer")])]
    assert told(verdict(params(**remove, answers={"max_characters": 5}), row)) == [("long_answer", None, None)]
    both = {"turns": {"remove": "all"}, "answers": {"max_characters": 5}}
    assert told(verdict(params(**both), row)) == [(None, [0], [(1, "empty_answer"), (2, "long_answer")])]


def test_a_sample_without_a_turn_left_is_dropped_with_a_reason_of_its_own() -> None:
    row = answers("", "x" * 9)
    chosen = params(turns={"remove": "all"}, answers={"max_characters": 5})
    assert told(verdict(chosen, row)) == [(NO_TURN_LEFT, None, [(0, "empty_answer"), (1, "long_answer")])]


def test_what_is_left_without_a_question_is_no_sample() -> None:
    row = sample("a", messages=talk(("assistant", "hello"), ASK, ("assistant", "")))
    found = verdict(params(turns={"remove": "all"}), row)
    assert told(found) == [(NO_TURN_LEFT, None, [(0, NO_TURN_LEFT), (1, "empty_answer")])]
    assert told(verdict(params(turns={"remove": "all"}), sample("a", messages=talk(("assistant", "a text"))))) == [
        (None, None, None)
    ]


def test_the_last_question_goes_where_nobody_answers_it() -> None:
    row = sample("a", messages=talk(ASK, ("assistant", "a"), ASK))
    assert told(verdict(params(turns={"remove": ["no_last_answer"]}), row)) == [(None, [0], [(1, "no_last_answer")])]


def test_ratings_of_turns() -> None:
    scores = [{"name": "x_ratings", "values": [5.0, 1.0, None]}, {"name": "y_ratings", "values": [5.0, 5.0, 2.0]}]
    row = answers("a", "b", "c", turn_scores=scores)
    removing = {"min_ratings": {"x_ratings": 2, "y_ratings": 2}, "remove": ["low_turn_rating"]}
    assert told(verdict(params(turns=removing), row)) == [(None, [0, 2], [(1, "low_turn_rating")])]
    removing["min_ratings"] = {"x_ratings": 2, "y_ratings": 3}
    assert told(verdict(params(turns=removing), row))[0][1] == [0]
    assert verdict(params(turns={"min_ratings": {"x_ratings": 2}}), row)["reason"].to_pylist() == ["low_turn_rating"]


def test_turns_and_characters_are_those_that_stay() -> None:
    row = answers("yes", "", "x" * 20)
    long = {"answers": {"max_characters": 9}, "turns": {"remove": "all"}}
    assert told(verdict(params(**long, max_characters=8), row))[0][0] is None
    assert told(verdict(params(**long, max_characters=7), row))[0][0] == "long_text"
    long["turns"] = {"remove": "all", "min": 2}
    assert told(verdict(params(**long), row))[0][0] == "few_turns"


REMOVING = params(
    turns={"remove": "all", "alternating": True, "no_copies": True, "min": 1, "max": 3},
    answers={"max_characters": 5},
    max_characters=30,
)
TALK = st.lists(
    st.tuples(st.sampled_from(["system", "user", "user", "assistant"]), st.sampled_from(["", "a", "bcd", "ef" * 4])),
    min_size=1,
    max_size=10,
)


def conversation(talk: Any, name: str = "a") -> dict[str, Any]:
    messages = [{"role": role, "content": [{"type": "text", "text": said}]} for role, said in talk]
    return sample(name, messages=messages)


@settings(max_examples=50)
@given(talks=st.lists(TALK, min_size=1, max_size=5), chosen=st.sets(st.sampled_from(OF_TURNS)))
def test_of_any_conversations_what_is_kept_is_valid_and_stays_when_judged_again(talks: Any, chosen: set[str]) -> None:
    removing = {"alternating": True, "no_copies": True, "remove": sorted(chosen), "max": 3}
    judge = params(turns=removing, answers={"max_characters": 5}, max_characters=30)
    rows = [conversation(one, str(n)) for n, one in enumerate(talks)]
    found = verdict(judge, *rows)
    for row, one in zip(rows, found.to_pylist(), strict=True):
        assert one["turns"] == len(grouped(row["messages"])[1])
        if one["reason"] is not None:
            assert one["kept_turns"] is None
            continue
        left = dict(cut(row, one["kept_turns"]))
        again = verdict(judge, left)
        assert told(again) == [(None, None, None)]
    ledger = turn_counts(found)
    assert ledger.rows_in == sum(len(grouped(row["messages"])[1]) for row in rows)


def test_the_ledger_of_turns_counts_each_once() -> None:
    rows = [answers("a", "", "b"), answers("", ""), answers("c" * 40), answers("d", "e")]
    found = verdict(params(turns={"remove": ["empty_answer"]}, max_characters=40), *rows)
    assert found["reason"].to_pylist() == [None, NO_TURN_LEFT, "long_text", None]
    assert turn_counts(found) == Counts(8, 4, {"empty_answer": 3, "long_text": 1})


@pytest.mark.parametrize(
    ("kept", "removed", "reason"),
    [
        ([0], [], None),
        ([0, 1], [(1, "echo")], None),
        ([1, 0], [(2, "echo")], None),
        ([0, 2], [(1, "worse")], None),
        ([0, 3], [(1, "echo"), (2, "echo")], None),
        (None, [(0, "echo"), (1, "echo"), (2, "echo")], None),
        ([0, 1], [(2, "echo")], "echo"),
        ([0, 1, 2], None, None),
    ],
)
def test_a_verdict_that_loses_a_turn_is_refused(kept: Any, removed: Any, reason: Any) -> None:
    found = verdict(params(), answers("a", "b", "c"))
    gone = None if removed is None else [{"turn": turn, "reason": why} for turn, why in removed]
    row = {**found.to_pylist()[0], "kept_turns": kept, "removed_turns": gone, "reason": reason}
    forged = pa.Table.from_pylist([row], found.schema)
    with pytest.raises(ValueError, match="its turns are neither kept nor removed, or both"):
        check_verdict(forged, found["sample_id"], QUALITY.reasons, "quality")


def test_lost_turns_do_not_add_up() -> None:
    found = verdict(params(), answers("a", "b", "c")).to_pylist()
    found[0] |= {"kept_turns": [0], "removed_turns": [{"turn": 1, "reason": "echo"}]}
    with pytest.raises(ManifestError, match="rows are lost"):
        turn_counts(pa.Table.from_pylist(found, verdict(params(), answers("a")).schema))


def test_evidence_says_exactly_what_other_limits_would_move() -> None:
    rows = [answers("a" * n, "b" * (2 * n), image_info=[{"width": 10 + n, "height": 90}]) for n in range(1, 30)]
    samples = table(*rows)
    before = QUALITY.verdicts(samples, params(evidence="all"), None)
    limits = {"min_image_side": 20, "answers": {"max_characters": 30}, "turns": {"remove": ["long_answer"]}}
    for more in ({}, {"min_characters": 45}, {"questions": {"min_compression": 0.9}}):
        other = params(**limits, **more)
        ran = QUALITY.verdicts(samples, other, None)
        said = decide(before, samples.select(["scores", "turn_scores"]), other)
        assert said.reasons == ran["reason"].to_pylist() and said.kept == ran["kept_turns"].to_pylist()
        assert 0 < sum(reason is None for reason in said.reasons) < len(rows)
    unmeasured = QUALITY.verdicts(samples, params(), None)
    with pytest.raises(ValueError, match=r"answer_compression was not measured; set data\.quality\.evidence: all"):
        decide(unmeasured, samples, params(answers={"min_compression": 0.5}))


def test_a_removed_turn_is_in_no_token_and_the_census_agrees() -> None:
    model = PretokeniseParams(InternVL(tile=56, patch=14, merge=2, max_tiles=6), ImageTokens(), max_tokens=400)
    chat = ChatFormat(byte_tokenizer(), model.tokens)
    row = rounds(1, 0, 0)
    row["messages"][1]["content"][0]["text"] = "SECRET"
    samples = table(row)
    found = {"quality": QUALITY.verdicts(samples, params(answers={"max_characters": 5}, turns={"remove": "all"}), None)}
    done: Any = joined(pretokenise([samples], found, chat, model))
    (made,) = done.rows.to_pylist()
    said = chat.decode(made["input_ids"], False)
    assert said == f"<s>user:{'<image>' * 4}q1</s><s>assistant:a1</s><s>user:q2</s><s>assistant:a2</s>"
    assert made["sample_id"] == row["sample_id"] and made["image_numbers"] == [0]
    (tally,), _ = count([samples], [Model(chat, model, found)])
    assert tally.kept["num_tokens"] == made["num_tokens"] == len(made["input_ids"])
