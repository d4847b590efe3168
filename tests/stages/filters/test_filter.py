"""What holds for every filter: one verdict per sample in order, closed reasons, a ledger that adds up."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.manifest import Counts
from stages.filters.language import bundled_model
from stages.filters.table import FILTERS
from stages.stage import Assets, Filter, UndeclaredReason, check_reasons, check_verdict, counts
from tests.stages.pictures import encoded, photo, sample, table

SAMPLES = table(sample("b", [encoded(photo(1))]), sample("a"), sample("c", [encoded(photo(1))]), sample("d", answer=""))
EVIDENCE = pa.schema([("length", pa.int32())])


def answering(reasons: list[str | None], evidence: pa.Table | None = None) -> Filter:
    """A filter that gives these reasons."""
    shown = pa.table([range(len(reasons))], schema=EVIDENCE) if evidence is None else evidence
    return Filter("probe", 1, object, {"bad": "it is bad"}, ("messages",), EVIDENCE, lambda *_: (reasons, shown))


def test_verdicts_stand_beside_their_samples() -> None:
    verdict = answering([None, "bad", None, "bad"]).verdicts(SAMPLES, None, None)
    assert verdict.to_pydict() == {
        "sample_id": ["b", "a", "c", "d"],
        "reason": [None, "bad", None, "bad"],
        "length": [0, 1, 2, 3],
    }
    assert counts(verdict) == Counts(4, 2, {"bad": 2})


def test_an_undeclared_reason_is_a_bug() -> None:
    with pytest.raises(UndeclaredReason, match=r"probe: reasons \['worse'\] are not declared; known: \['bad'\]"):
        answering([None, "bad", "worse", None]).verdicts(SAMPLES, None, None)
    check_reasons([None, "bad"], {"bad": ""}, "probe")


@pytest.mark.parametrize("reasons", [[], [None] * 3, [None] * 5])
def test_a_verdict_too_few_or_too_many_is_refused(reasons: list[str | None]) -> None:
    with pytest.raises(ValueError):
        answering(reasons).verdicts(SAMPLES, None, None)


def test_evidence_of_another_shape_is_refused() -> None:
    for evidence in (
        pa.table([[1, 2]], schema=EVIDENCE),
        pa.table({"length": ["1", "2", "3", "4"]}),
        pa.table({"other": pa.array([1, 2, 3, 4], pa.int32())}),
        pa.table({"length": pa.array([1, 2, 3, 4], pa.int32()), "more": [1, 2, 3, 4]}),
    ):
        with pytest.raises(ValueError):
            answering([None] * 4, evidence).verdicts(SAMPLES, None, None)


@pytest.mark.parametrize(
    "ids", [["a", "b", "c", "d"], ["b", "a", "c"], ["b", "a", "c", "d", "e"], ["b", "a", "c", None]]
)
def test_verdicts_about_other_samples_are_refused(ids: list[str | None]) -> None:
    verdict = pa.table({"sample_id": ids, "reason": pa.array([None] * len(ids), pa.string())})
    with pytest.raises(ValueError, match="don't match 4 samples row by row"):
        check_verdict(verdict, SAMPLES["sample_id"], {"bad": ""}, "probe")


@given(st.lists(st.sampled_from([None, "bad", "worse"])))
def test_the_ledger_counts_every_row_once(reasons: list[str | None]) -> None:
    found = counts(pa.table({"reason": pa.array(reasons, pa.string())}))
    assert found.rows_in == len(reasons) and found.kept == reasons.count(None)
    assert found.dropped == {name: reasons.count(name) for name in sorted({*reasons} - {None})}


def settings_of(name: str) -> tuple[Any, Any]:
    filter = FILTERS[name]
    params = filter.params(keep=("en",)) if name == "language" else filter.params()
    assets = Assets({name: bundled_model() for name in filter.assets}, SAMPLES.slice(0, 1))
    loaded = filter.load(params, assets) if filter.load else None
    return params, (loaded, lambda rows: {}) if filter.opens_images else loaded


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_needs_only_the_columns_it_names(name: str) -> None:
    filter = FILTERS[name]
    assert "images" not in filter.columns
    params, loaded = settings_of(name)
    narrow = filter.verdicts(SAMPLES.select(["sample_id", *filter.columns]), params, loaded)
    assert narrow.equals(filter.verdicts(SAMPLES, params, loaded))
    assert counts(narrow).rows_in == 4
    assert filter.verdicts(SAMPLES.slice(0, 0), params, loaded).num_rows == 0


@pytest.mark.parametrize("name", FILTERS)
def test_a_part_is_judged_alike_alone_or_with_others(name: str) -> None:
    params, loaded = settings_of(name)
    judge = FILTERS[name].verdicts
    parts = [judge(SAMPLES.slice(start, 2), params, loaded) for start in (0, 2)]
    assert pa.concat_tables(parts).to_pylist() == judge(SAMPLES, params, loaded).to_pylist()
