"""Identity: one text per value, none for what has no stable text."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.identity import canonical, fingerprint


@dataclass(frozen=True)
class Step:
    name: str
    sizes: tuple[int, ...]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def tagged(value: Any) -> Any:
    """The value with every type spelled out, because Python says 1 == True == 1.0."""
    if isinstance(value, dict):
        return ("dict", tuple(sorted((key, tagged(item)) for key, item in value.items())))
    if isinstance(value, list | tuple):
        return ("list", tuple(map(tagged, value)))
    return (type(value).__name__, repr(value))


@given(PLAIN, PLAIN)
def test_distinct_values_have_distinct_texts(left: Any, right: Any) -> None:
    assert (canonical(left) == canonical(right)) == (tagged(left) == tagged(right))


@pytest.mark.parametrize(
    ("left", "right"),
    [(1, True), (1, 1.0), (0, False), (None, "null"), ([], {}), ("1", 1), ("", None), ([["a"]], ["a"]), (0.0, -0.0)],
)
def test_near_values_stay_apart(left: Any, right: Any) -> None:
    assert fingerprint(left) != fingerprint(right)


@given(PLAIN)
def test_the_text_says_it_all(value: Any) -> None:
    assert tagged(json.loads(canonical(value))) == tagged(value)


@given(st.dictionaries(st.text(), PLAIN, min_size=2), st.randoms(use_true_random=False))
def test_key_order_does_not_matter(mapping: dict[str, Any], random: Any) -> None:
    keys = list(mapping)
    random.shuffle(keys)
    assert fingerprint({key: mapping[key] for key in keys}) == fingerprint(mapping)


def test_a_dataclass_counts_as_its_fields() -> None:
    assert canonical(Step("é", (1, 2))) == '{"name":"é","sizes":[1,2]}'
    assert fingerprint(Step("é", (1, 2))) == fingerprint({"sizes": [1, 2], "name": "é"})
    assert fingerprint({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()


def test_lone_surrogates_have_an_identity_of_their_own() -> None:
    assert len({fingerprint(text) for text in ("\ud83d\ude00", "\U0001f600", "\ud83d", "?")}) == 4


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": [1, len]}, r"value\.a\[1\]: a builtin_function_or_method"),
        ({"a": {1, 2}}, r"value\.a: a set"),
        ([float("nan")], r"value\[0\]: nan"),
        ([float("-inf")], r"value\[0\]: -inf"),
        ({"a": b"x"}, r"value\.a: a bytes"),
        ({"a": Path("x")}, r"value\.a: a \w*Path"),
        ({1: "x"}, r"value: the key 1 is a int"),
        (Step, r"value: a type"),
        ({"a": object()}, r"value\.a: a object"),
        ({"a": (x for x in [1])}, r"value\.a: a generator"),
    ],
)
def test_what_has_no_stable_text_is_refused_with_its_place(value: Any, place: str) -> None:
    with pytest.raises(TypeError, match=f"^{place}"):
        fingerprint(value)


def test_a_fingerprint_outlives_the_process(tmp_path: Path) -> None:
    value = {name: [name, {"x": 0.1, "y": None}] for name in "bca"}
    code = f"from schemas.identity import fingerprint; print(fingerprint({value!r}))"
    run: Callable[[str], str] = lambda seed: subprocess.run(  # noqa: E731
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    assert run("1") == run("2") == fingerprint(value)
