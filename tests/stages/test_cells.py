"""Cells: nothing is lost, however the rows are cut to parts; their number is bounded, and what is folded is said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.sample import LABEL
from stages.cells import COLUMNS, MOST, added, declared, judged, of_shard, told, total

Row = tuple[str, str, str | None, str | None]
ROWS = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from(["x", "y", ""]),
        st.sampled_from(["en", "ja", None, ""]),
        st.sampled_from(["mit", None]),
    ),
    max_size=40,
)


def samples(rows: Sequence[Row]) -> pa.Table:
    kinds = {"declared_language": pa.string()}
    columns = zip(*rows, strict=True) if rows else ([] for _ in COLUMNS)
    return pa.table(
        {name: pa.array(list(column), kinds.get(name, LABEL)) for name, column in zip(COLUMNS, columns, strict=True)}
    )


@given(ROWS, st.integers(1, 7))
def test_parts_change_nothing_and_nothing_is_lost(rows: list[Row], size: int) -> None:
    whole = told([declared(samples(rows))])
    parts = [declared(samples(rows[start : start + size])) for start in range(0, len(rows), size)]
    assert told(parts) == told(parts[::-1]) == whole
    found = {tuple(cell[name] for name in ("source", "subset", "language", "licence")): cell["rows"] for cell in whole}
    assert found == Counter(rows)
    assert [cell["rows"] for cell in whole] == sorted(found.values(), reverse=True)


def test_what_is_rare_is_folded_at_the_end_by_source() -> None:
    often = [("a", f"s{n}", "en", None) for n in range(MOST - 1) for _ in range(3)]
    rare = [("a", f"t{n}", "en", "mit") for n in range(30)] + [("b", f"t{n}", None, "mit") for n in range(20)] * 2
    cells = told(declared(samples(rows)) for rows in (rare[:35], often[:700], rare[35:], often[700:]))
    assert cells[MOST:] == [{"source": "a", "folded": 30, "rows": 30}, {"source": "b", "folded": 19, "rows": 38}]
    assert len(cells) == MOST + 2 and cells[MOST - 1] == {
        "source": "b", "subset": "t0", "language": None, "licence": "mit", "rows": 2
    }  # fmt: skip
    assert total(cells, "rows") == len(often) + len(rare)


@pytest.mark.parametrize("found", [True, False])
def test_a_filter_s_own_language_counts(found: bool) -> None:
    rows = samples([("a", "x", "en", None), ("a", "x", "en", None), ("a", "x", None, None)])
    own: dict[str, Any] = {"language": ["fr", "en", "en"]} if found else {}
    verdict = pa.table({"reason": pa.array([None, "bad", None], pa.string()), **own})
    cells = {cell[2]: cell[-1] for cell in judged(rows, verdict)}
    if found:
        assert cells == {"en": {"rows": 2, "kept": 1}, "fr": {"rows": 1, "kept": 1}}
    else:
        assert cells == {None: {"rows": 1, "kept": 1}, "en": {"rows": 2, "kept": 1}}


def test_tokens_are_added_up() -> None:
    counts = {
        name: [5, 7] for name in ("num_tokens", "num_text_tokens", "num_image_tokens", "num_target_tokens", "num_tiles")
    }
    keys = {
        "source": ["a", "a"],
        "subset": ["x", "x"],
        "language": ["en", "en"],
        "licence": pa.array([None] * 2, "string"),
    }
    (cell,) = added([of_shard(pa.table({**keys, **counts}))] * 2)
    assert cell[:4] == ["a", "x", "en", None] and cell[4] == {"rows": 4, **dict.fromkeys(counts, 24)}
