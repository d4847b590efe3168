"""YAML as a person means it: what is read, what is refused with its line, and that nothing else happens."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas import yaml_file
from schemas.strict import RecipeError
from schemas.yaml_file import MOST_BYTES, MOST_DEPTH, MOST_VALUES, dump, parse, read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        ("-2.5e+2", -250.0),
        ("1.0e-3", 0.001),
        (".5", 0.5),
        ("1.", 1.0),
        ("+.5", 0.5),
        ("0.5", 0.5),
        ("0", 0),
        ("-0", 0),
        ("+12", 12),
        ("100_000_000", 100_000_000),
        ("1_000.5", 1000.5),
        ("true", True),
        ("True", True),
        ("TRUE", True),
        ("false", False),
        ("False", False),
        ("FALSE", False),
        ("null", None),
        ("Null", None),
        ("NULL", None),
        ("~", None),
        ("", None),
    ],
)
def test_numbers_and_constants(text: str, value: Any) -> None:
    found = parse(f"a: {text}", "f")["a"]
    assert found == value and type(found) is type(value)


NO_NUMBERS = """1:30 1:30.5 12:30:45 010 00 01.5 0x1F 0o17 0b1 1__0 1_ _1 1_.5 1._5 1e 1e+ e5 .e5 1.5.2 . + ++1 1e5e5
    1e1_0 1e5.5 10.0.0.5:6379 2024-01-01 .nan .inf -.inf inf nan Infinity = << 1,5 1- １ ٣ 1e٣ .٣ 1٣"""


@pytest.mark.parametrize(
    "text",
    ["2024-01-01 10:00:00", "1 2", "no", "off", "on", "yes", "NO", "tRUE", "nULL", *NO_NUMBERS.split()],
)
def test_all_else_is_text(text: str) -> None:
    assert parse(f"a: {text}", "f") == {"a": text}
    assert parse(f"- {text}", "f") == [text]


@pytest.mark.parametrize("text", ["1e-3", "5", "true", "null", "~", "", "no", "<<"])
def test_quotes_make_text(text: str) -> None:
    for quote in "'\"":
        assert parse(f"{quote}a{quote}: {quote}{text}{quote}", "f") == {"a": text}


def test_keys_that_yaml_1_1_takes_for_booleans_are_text() -> None:
    assert parse("on: 1\nno: [no, off]\n2024-01-01: y\n'5': z\n'<<': q", "f") == {
        "on": 1,
        "no": ["no", "off"],
        "2024-01-01": "y",
        "5": "z",
        "<<": "q",
    }


def test_blocks_lists_and_comments() -> None:
    text = "# first\na: |\n  x\n  y\nb: >-\n  x\n  y\nc: [1, {d: e}]  # last\nf:\n- g\n- - h\n"
    assert parse(text, "f") == {"a": "x\ny\n", "b": "x y", "c": [1, {"d": "e"}], "f": ["g", ["h"]]}
    assert list(parse("{b: 1, a: 2}", "f")) == ["b", "a"]


@pytest.mark.parametrize("text", ["", "# nothing", "---", "\ufeff", "\n\n"])
def test_nothing_is_null(text: str) -> None:
    assert parse(text, "f") is None


def test_an_anchor_gives_copies() -> None:
    found = parse("a: &tiles {grid: [1, 2], name: &n x}\nb: *tiles\nc: *tiles\n*n : 3", "f")
    assert found == {"a": {"grid": [1, 2], "name": "x"}, "b": found["a"], "c": found["a"], "x": 3}
    found["b"]["grid"].append(3)
    assert found["a"]["grid"] == found["c"]["grid"] == [1, 2]
    assert parse("[&a 1, *a, &a 2, *a]", "f") == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: 2\na: 3", 3, "the key 'a' is given twice; keep one"),
        ("a: 1\nb: {c: 1, 'c': 2}", 2, "the key 'c' is given twice; keep one"),
        ("a: &x a\n*x : 2", 2, "the key 'a' is given twice; keep one"),
        ("a: 1\n5: 2", 2, "the key 5 is no text; put it in quotes"),
        ("1e3: 2", 1, "the key 1e3 is no text; put it in quotes"),
        ("true: 2", 1, "the key true is no text; put it in quotes"),
        ("~: 2", 1, "the key ~ is no text; put it in quotes"),
        ("a: &x 5\n*x : 2", 2, "the key 5 is no text; put it in quotes"),
        ("a: &x [5]\n*x : 2", 2, "the key [5] is no text; put it in quotes"),
        ("\n? [a]\n: 1", 2, "a list or a mapping is no key; a key is text"),
        ("{a: b}: 1", 1, "a list or a mapping is no key; a key is text"),
        ("a: &x {b: 1}\nc:\n  <<: *x", 3, "`<<` is not read here; write the keys out"),
        ("a: *x", 1, "*x stands for nothing that ends above it"),
        ("a:\n  b: &x [1, *x]", 2, "*x stands for nothing that ends above it"),
        (
            "a:\n- !!python/name:os.system x",
            2,
            "the tag !!python/name:os.system is not read here; write the plain value",
        ),
        ("!!python/object/apply:os.system [ls]", 1, "the tag !!python/object/apply:os.system is not read here"),
        ("a: !!str 5", 1, "the tag !!str is not read here"),
        ("a: ! 5", 1, "the tag ! is not read here"),
        ("!!map {a: 1}", 1, "the tag !!map is not read here"),
        ("!!str a: 1", 1, "the tag !!str is not read here"),
        ("a: 1\n---\nb: 2", 2, "a second document begins; one file holds one"),
        ("a: 1\nb: 1e999", 2, "1e999 is too large for a number; put it in quotes if it is text"),
        ("a: -1e999", 1, "-1e999 is too large for a number; put it in quotes if it is text"),
        ("a: " + "9" * 5000, 1, f"{'9' * 57}... is too large for a number; put it in quotes if it is text"),
        ("a: 1\n\tb: 2", 2, r"not YAML: found character '\t' that cannot start any token; use spaces, not tabs"),
        ("a:\t1", 1, r"not YAML: found character '\t' that cannot start any token; use spaces, not tabs"),
        ("a: @b", 1, "not YAML: found character '@' that cannot start any token; put text with special characters in"),
        ("\na: b: c", 2, "not YAML: mapping values are not allowed here; put text with special characters in quotes"),
        ("a: [1,\nb", 2, "not YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: 1\nb: \0", 2, "the character U+0000 can't stand in YAML"),
        ("\x07", 1, "the character U+0007 can't stand in YAML"),
        ('a: 1\nb: "x\\0"', 2, r"a NUL in 'x\x00'"),
        ('a: "\\ud83d"', 1, r"half a character in '\ud83d'"),
        ('"\\ude00": 1', 1, r"half a character in '\ude00'"),
        ("[" * (MOST_DEPTH + 2), 1, "more than 50 lists and mappings inside each other"),
        ("- " * 10_000, 1, "more than 50 lists and mappings inside each other"),
        ("[" * 100_000, 1, "more than 50 lists and mappings inside each other"),
        ("{a: " * 10_000, 1, "more than 50 lists and mappings inside each other"),
    ],
)
def test_a_refusal_names_the_line(text: str, line: int, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(text, "some file")
    assert str(caught.value).startswith(f"some file line {line}: {message}")
    assert "did" not in str(caught.value) and str(caught.value).count("\n") == 0


def test_advice_is_only_given_where_it_helps() -> None:
    with pytest.raises(RecipeError, match=r"found '<stream end>'$"):
        parse("[", "f")


@pytest.mark.parametrize("text", ['a: "\\UFFFFFFFF"', 'a: "\\U00110000"', f"%YAML 1.{'1' * 5000}\n---\na: 1"])
def test_what_the_parser_itself_falls_over_is_one_line(text: str) -> None:
    with pytest.raises(RecipeError, match=r"^f: not YAML: a number in it is out of range$"):
        parse(text, "f")


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_the_bound_of_depth_counts_what_aliases_stand_for() -> None:
    assert parse(json.dumps(nested(MOST_DEPTH)), "f") == nested(MOST_DEPTH)
    text = f"- &a {json.dumps(nested(MOST_DEPTH - 6))}\n- {{b: [[[[*a]]]]}}\n"
    assert parse(text, "f")[1] == {"b": [[[[nested(MOST_DEPTH - 6)]]]]}
    with pytest.raises(RecipeError, match="line 2: more than 50 lists and mappings"):
        parse(text.replace("[[[[*a]]]]", "[[[[[*a]]]]]"), "f")


def test_the_bound_of_values_counts_what_aliases_stand_for() -> None:
    """A list of 998 numbers counts 999, a mapping of 499 keys and numbers as well: 100 of them and the list around."""
    for shared in (list(range(998)), {f"k{n}": n for n in range(499)}):
        text = f"- &a {json.dumps(shared)}\n" + "- *a\n" * 99
        assert MOST_VALUES == 1 + 100 * 999 + 99
        assert parse(text + "- 0\n" * 99, "f")[98:101] == [shared, shared, 0]
        with pytest.raises(RecipeError, match=f"line 200: more than {MOST_VALUES:,} values, with aliases written out"):
            parse(text + "- 0\n" * 100, "f")


def test_laughs_are_not_multiplied_out() -> None:
    lines = ["a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 40)]
    with pytest.raises(RecipeError, match="line 5: more than 100,000 values"):
        parse("\n".join(lines), "f")


# ---- files


def test_a_file_is_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes("\ufeffname: 質問\r\nb: 1\r\n".encode())
    assert read(path) == read(str(path)) == {"name": "質問", "b": 1}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "got nothing, wanted a mapping of keys to values"),
        (b"- 1", "got list, wanted a mapping of keys to values"),
        (b"some text", "got str, wanted a mapping of keys to values"),
        (b"a: 1\nb: \xff", "byte 8 is not UTF-8; save it as a text file in UTF-8"),
        ("a: 1".encode("utf-16"), "byte 0 is not UTF-8; save it as a text file in UTF-8"),
        (b"\xef\xbb\xbfa: \xff", "byte 3 is not UTF-8"),
        (b"#" * (MOST_BYTES + 1), "larger than 1,048,576 bytes; that is no recipe and no config"),
        ("#" * (MOST_BYTES - 1) + "é", "larger than 1,048,576 bytes"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(data: bytes | str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    with pytest.raises(RecipeError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_file_of_the_largest_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("a: 1\n#" + "x" * (MOST_BYTES - 6))
    assert path.stat().st_size == MOST_BYTES and read(path) == {"a": 1}


def test_faults_in_a_file_name_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("a: 1\na: 2")
    with pytest.raises(RecipeError) as caught:
        read(path)
    assert str(caught.value) == f"{path} line 2: the key 'a' is given twice; keep one"


def test_a_file_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.yaml: no such file$"):
        read(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match=r"can't be read \(Is a directory\)$"):
        read(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(RecipeError, match=r"can't be read \(Not a directory\)$"):
        read(tmp_path / "file" / "r.yaml")


# ---- properties

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
LOOKALIKES = st.sampled_from(
    ["1e5", "no", "null", "", "~", "1_0", "<<", "=", "2024-01-01", "a: b", "# x", "- x", "010"]
)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**300), 10**300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | LOOKALIKES
    | st.from_regex(yaml_file._NUMBER, fullmatch=True),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT | LOOKALIKES, inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
@example({"1e5": "1e5", "x": ["1_0", "+1", ".5", "1."], "a\n b": "\x85 \u2028\n\n"})
def test_what_is_dumped_is_read_back(value: Any) -> None:
    found = parse(dump(value), "f")
    assert repr(found) == repr(value)  # 1 == True == 1.0


@given(PLAIN)
def test_json_is_yaml(value: Any) -> None:
    for ascii_only in (True, False):
        text = json.dumps(value, ensure_ascii=ascii_only)
        if ascii_only or (text.isprintable() and "\\/" not in text):
            assert parse(text, "f") == value


def test_dump_folds_only_what_is_wider_than_code() -> None:
    assert dump(["word " * 20 + "x"]).count("\n") == 1 and dump(["word " * 26 + "x"]).count("\n") == 2


def test_dump_shares_nothing_and_keeps_the_order() -> None:
    shared = [1, 2]
    assert dump({"b": shared, "a": shared, "c": "質問"}) == "b:\n- 1\n- 2\na:\n- 1\n- 2\nc: 質問\n"


MARKS = [
    "a",
    "b: ",
    "\n",
    "  ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "&x ",
    "*x",
    "<<: ",
    "!!str ",
    "'",
    '"',
    "? ",
    "|\n",
    "#",
]
ODD = ["1e5", "no", "---\n", "...\n", "\\", "\\u", "\ufeff", "%YAML 1.1\n", "\x85", "\0", "é", ":", "@", "!", ">", "\t"]
PIECES = st.sampled_from(MARKS) | st.sampled_from(ODD)


@settings(max_examples=600)
@given(st.lists(PIECES, max_size=25).map("".join) | st.text(max_size=60))
def test_any_text_is_a_value_or_one_short_line(text: str) -> None:
    try:
        value = parse(text, "f")
    except RecipeError as error:
        assert str(error).startswith("f") and len(str(error).splitlines()) == 1 and len(str(error)) < 300
    else:
        assert plain(value)


def plain(value: Any) -> bool:
    """Nothing but JSON's types: no date, no set, no object of anybody's."""
    if isinstance(value, dict):
        return all(type(key) is str and plain(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(map(plain, value))
    return value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value))
