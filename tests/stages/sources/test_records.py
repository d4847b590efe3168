"""Records of a file: slices hold every record once and in order, whatever the window, the row groups or the damage."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.sources.records import json_spans, streams
from stages.sources.records.slices import read, slices
from stages.sources.records.streams import DataError, Limits
from stages.sources.shapes.draft import BadRow

ROOT = Path(__file__).parents[3]


def all_records(path: Path, rows_per_part: int = 2) -> list[Any]:
    """Every record through slices; rows must count up from 0, slices must respect their size."""
    found = []
    for part in slices(path, path.name, rows_per_part):
        rows = list(read(path, part))
        assert len(rows) == part.rows <= rows_per_part
        found.extend(rows)
    assert [row for row, _ in found] == list(range(len(found)))
    return [record for _, record in found]


def written(folder: Path, data: bytes | str, name: str = "a.json") -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return path


AWKWARD = [
    {"text": 'brackets ]}[{ and "quotes" \\ and \\" both', "n": 1},
    {"text": "日本語 😀 \u2028 é", "nested": [{"a": [[], {}]}]},
    {"text": "line\nbreak\ttab", "x": 1.5e300, "y": -0.0, "z": None},
    {},
    {"long": "x" * 300},
    [1, [2, "]"]],
    "plain text, with ] in it",
    12345,
    -1.25e-7,
    True,
    None,
]


@pytest.mark.parametrize("window", [1, 2, 3, 5, 16, 64, 1 << 20])
@pytest.mark.parametrize("dump", [{}, {"ensure_ascii": False}, {"indent": 2}, {"separators": (",", ":")}])
def test_elements_may_cross_the_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int, dump: dict[str, Any]
) -> None:
    monkeypatch.setattr(json_spans, "_WINDOW", window)
    text = json.dumps(AWKWARD, **dump)
    for lead in ("", "\ufeff", " \n\t", "\ufeff \n"):
        assert all_records(written(tmp_path, lead + text + " \n")) == AWKWARD


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(_JSON, max_size=9), st.integers(1, 10), st.integers(1, 40), st.booleans(), st.sampled_from([None, 1]))
def test_slices_of_any_size_concatenate_to_the_file(
    tmp_path_factory: pytest.TempPathFactory,
    elements: list[Any],
    rows: int,
    window: int,
    ascii: bool,
    indent: int | None,
) -> None:
    text = json.dumps(elements, ensure_ascii=ascii, indent=indent).encode("utf-8", "replace")
    path = written(tmp_path_factory.getbasetemp(), text, "any.json")
    lines = b"\n".join(json.dumps(element, ensure_ascii=ascii).encode("utf-8", "replace") for element in elements)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_spans, "_WINDOW", window)
        assert all_records(path, rows) == json.loads(text)
        path = written(tmp_path_factory.getbasetemp(), lines, "any.jsonl")
        assert all_records(path, rows) == json.loads(text)


def test_an_escaped_surrogate_pair_is_one_character(tmp_path: Path) -> None:
    assert all_records(written(tmp_path, rb'[{"a": "\ud83d\ude00 \u00e9"}]')) == [{"a": "😀 é"}]


def test_line_breaks_inside_texts_are_kept(tmp_path: Path) -> None:
    assert all_records(written(tmp_path, b'[{"a": "one\ntwo\t"}]')) == [{"a": "one\ntwo\t"}]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "wanted an array of records.*begins with ''"),
        (b"   ", "wanted an array of records"),
        (b"null", "wanted an array of records.*begins with 'n'"),
        (b'"text"', "wanted an array of records"),
        (b"[", "at byte 1 .the array does not end"),
        (b'[{"a": 1}', "at byte 9 .the array does not end"),
        (b'[{"a": 1},', "at byte 10 "),
        (b'[{"a": 1}, {"a": ', "at byte 11 "),
        (b'[{"a": 1}, {"a": "unterminated]', "at byte 11 "),
        (b'[{"a": 1}, {"a": [2}', "at byte 11 .the record that begins here"),
        (b'[{"a": 1}, {"a": "2}, {"a": 3}]', "at byte 11 .the record that begins here"),
        (b'[{"a": 1}}, {"a": 2}]', "at byte 9 .'}', wanted ',' or ']'"),
        (b'[{"a": 1}, }]', "at byte 11 .'}', wanted a record"),
        (b'[{"a": 1} {"a": 2}]', "at byte 10 "),
        (b'[{"a": 1},, {"a": 2}]', "at byte 10 "),
        (b'[{"a": 1},]', "at byte 10 "),
        (b"[1, 2] [3]", "at byte 7 "),
        (b"[1, 2], 3", "at byte 6 "),
        (b"[1, 2]]", "at byte 6 "),
        (b"[12", "at byte 1 "),
        (b"[" * 200_000, "at byte 1 "),
        (b'[{"a": 1}][{"a": 2}]', "at byte 10 .something follows"),
        (b'[{"a": 1}]' + bytes(100), "at byte 10 .something follows"),
        (b'{"a": 1},{"a": 2}', "at byte 8 .',', wanted a record"),
        (b'{"a": 1}]', "at byte 8 .']', wanted a record"),
        ('[{"a": 1}]'.encode("utf-16"), "UTF-16"),
        ('[{"a": 1}]'.encode("utf-16-le"), "UTF-16"),
        ('[{"a": 1}]'.encode("utf-16-be"), "UTF-16"),
    ],
)
@pytest.mark.parametrize("window", [2, 1 << 20])
def test_a_broken_array_is_refused_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, message: str, window: int
) -> None:
    if len(data) > 1000 and window == 2:
        window = 1000
    monkeypatch.setattr(json_spans, "_WINDOW", window)
    path = written(tmp_path, data)
    with pytest.raises(DataError, match=message) as caught:
        all_records(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def reasons(found: list[Any]) -> list[Any]:
    return [record.reason if isinstance(record, BadRow) else record for record in found]


def test_a_record_that_is_not_utf8_is_a_bad_row(tmp_path: Path) -> None:
    data = b'[{"a": 1}, {"a": "\xff\xfe"}, {"a": 3}]'
    assert reasons(all_records(written(tmp_path, data))) == [{"a": 1}, "malformed_record", {"a": 3}]


def test_a_number_beyond_pythons_limit_is_a_bad_row(tmp_path: Path) -> None:
    data = '[{"a": 1}, {"a": ' + "1" * 5000 + "}, 3]"
    assert reasons(all_records(written(tmp_path, data))) == [{"a": 1}, "malformed_record", 3]


def test_a_bad_line_is_a_bad_row_and_blank_lines_are_none(tmp_path: Path) -> None:
    data = b'\xef\xbb\xbf{"a": 1}\n\n  \r\n{"a": 2}\r\nnot json\n{"a": "\xff"}\n{"a": ' + b"[" * 100_000 + b'\n{"a": 5}'
    found = all_records(written(tmp_path, data, "a.jsonl"), 3)
    assert reasons(found) == [{"a": 1}, {"a": 2}, "malformed_record", "malformed_record", "malformed_record", {"a": 5}]


def test_empty_files_hold_no_records(tmp_path: Path) -> None:
    assert all_records(written(tmp_path, b"[ ]")) == []
    assert all_records(written(tmp_path, b"", "a.jsonl")) == []
    assert all_records(written(tmp_path, b"\xef\xbb\xbf\n", "b.jsonl")) == []


def parquet(folder: Path, table: pa.Table, **options: Any) -> Path:
    pq.write_table(table, folder / "a.parquet", **options)
    return folder / "a.parquet"


@pytest.mark.parametrize("group", [1, 7, 64, 100, 1000])
@pytest.mark.parametrize("rows", [1, 10, 64, 65, 333, 1000])
def test_parquet_slices_over_row_groups_equal_the_whole(tmp_path: Path, group: int, rows: int) -> None:
    table = pa.table({"n": range(333), "list": [[{"x": i}] * (i % 3) for i in range(333)]})
    path = parquet(tmp_path, table, row_group_size=group)
    assert all_records(path, rows) == table.to_pylist()


def test_an_empty_parquet_file_holds_no_records(tmp_path: Path) -> None:
    assert all_records(parquet(tmp_path, pa.table({"n": pa.array([], pa.int64())}))) == []


def test_a_parquet_text_that_is_not_utf8_costs_only_its_row(tmp_path: Path) -> None:
    texts = pa.array([b"a", b"\xff\xfe", "é".encode()], pa.binary()).view(pa.string())
    assert reasons(all_records(parquet(tmp_path, pa.table({"t": texts})), 3)) == [
        {"t": "a"},
        "malformed_record",
        {"t": "é"},
    ]


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    whole = parquet(tmp_path, pa.table({"n": range(1000)})).read_bytes()
    for data in (b"", b"PAR1", b"<html>", whole[:-20]):
        with pytest.raises(DataError, match="not a readable parquet"):
            all_records(written(tmp_path, data, "b.parquet"))


def test_damaged_parquet_pages_are_refused_with_the_file(tmp_path: Path) -> None:
    table = pa.table({"n": [str(n) * 20 for n in range(1000)]})
    path = parquet(tmp_path, table, compression="zstd", use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[4:200] = b"\xff" * 196
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.parquet: damaged at row 0"):
        all_records(path, 1000)


# ---- compressed files


def packed(path: Path, data: bytes, frames: int = 1) -> Path:
    """`data` compressed by the suffix, as several frames laid end to end."""
    step = len(data) // frames + 1
    pieces = [data[i : i + step] for i in range(0, len(data), step)]
    squeeze = gzip.compress if path.suffix == ".gz" else lambda piece: pa.compress(piece, "zstd", asbytes=True)
    path.write_bytes(b"".join(map(squeeze, pieces)))
    return path


_ROWS = [{"n": n, "text": "日本語\n" * (n % 50)} for n in range(500)]


@pytest.mark.parametrize("suffix", [".json.gz", ".jsonl.gz", ".json.zst", ".jsonl.zst"])
@pytest.mark.parametrize("frames", [1, 3])
def test_compressed_files_hold_the_same_records(tmp_path: Path, suffix: str, frames: int) -> None:
    text = json.dumps(_ROWS) if "json." in suffix else "\n".join(map(json.dumps, _ROWS))
    path = packed(tmp_path / f"a{suffix}", text.encode(), frames)
    assert all_records(path, 7) == _ROWS
    parts = slices(path, path.name, 100)
    for number in (3, 1, 4, 0):  # parts come to a worker in any order
        assert [record for _, record in read(path, parts[number])] == _ROWS[number * 100 : number * 100 + 100]


@pytest.mark.parametrize("suffix", [".json.gz", ".jsonl.gz", ".json.zst", ".jsonl.zst"])
@pytest.mark.parametrize("damage", ["cut", "other", "flipped"])
def test_damaged_compressed_files_are_refused(tmp_path: Path, suffix: str, damage: str) -> None:
    text = json.dumps(_ROWS) if "json." in suffix else "\n".join(map(json.dumps, _ROWS))
    path = packed(tmp_path / f"a{suffix}", text.encode())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes({"cut": path.read_bytes()[:-40], "other": b"<html>", "flipped": bytes(data)}[damage])
    with pytest.raises(DataError, match=r"a\.json") as caught:
        all_records(path, 7)
    assert "\n" not in str(caught.value)


def test_parts_in_order_read_a_compressed_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path / "a.json.gz", json.dumps(_ROWS).encode())
    parts = slices(path, path.name, 20)
    starts = []
    whole = streams._Inflated._restart
    monkeypatch.setattr(streams._Inflated, "_restart", lambda self: (starts.append(1), whole(self)))
    assert sum(len(list(read(path, part))) for part in parts) == 500
    assert len(starts) == 1  # back to the beginning after the pass that found the parts, and never again


# ---- what else is found in JSON


BAD_ELEMENTS = [
    b"{a: 2}",
    b"{'a': 2}",
    b'{"a": 2,}',
    b'{"a": oops}',
    b'{"a": 2 /* why */}',
    b'{"a": [1, 2}]',
    b'{"a": "\xff"}',
    b'{"a": "\\x"}',
    b"oops",
    b"[" * 200_000 + b"]" * 200_000,
    b'{"a": ' * 100_000 + b"1" + b"}" * 100_000,
]


@pytest.mark.parametrize("window", [7, 1 << 20])
@pytest.mark.parametrize("number", range(len(BAD_ELEMENTS)))
def test_an_element_that_is_no_json_costs_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, window: int
) -> None:
    bad = BAD_ELEMENTS[number]
    monkeypatch.setattr(json_spans, "_WINDOW", max(window, len(bad) // 10))
    data = b'[{"a": 1}, ' + bad + b', {"a": 3},\n' + bad + b"]"
    expected = [{"a": 1}, "malformed_record", {"a": 3}, "malformed_record"]
    assert reasons(all_records(written(tmp_path, data), 3)) == expected
    lines = written(tmp_path, b'{"a": 1}\r\n' + bad + b'\n{"a": 3}\r\n' + bad, "a.jsonl")
    assert reasons(all_records(lines, 3)) == expected


def test_numbers_that_json_has_not_and_keys_that_stand_twice(tmp_path: Path) -> None:
    found = all_records(written(tmp_path, b'[{"a": NaN, "b": -Infinity}, {"a": 1, "a": 2}, {"a": "\0\\u0000"}]'))
    assert str([found[0], found[2]]) == str([{"a": float("nan"), "b": float("-inf")}, {"a": "\0\0"}])
    assert isinstance(found[1], BadRow) and "the key 'a' is given twice" in found[1].detail


@pytest.mark.parametrize("between", ["\n", "\r\n", "", " \n\n "])
def test_records_one_after_the_other_in_a_json_file(tmp_path: Path, between: str) -> None:
    """What `datasets` writes as .json, and what `jq` prints."""
    rows = [{"a": number, "b": ["x", {"c": "}"}]} for number in range(5)]
    for indent in (None, 2):
        text = between.join(json.dumps(row, indent=indent) for row in rows)
        assert all_records(written(tmp_path, text)) == rows
        assert all_records(written(tmp_path, "\ufeff" + text + between)) == rows
    assert reasons(all_records(written(tmp_path, '{"a": 1}\noops\n{"a": 2}'))) == [
        {"a": 1},
        "malformed_record",
        {"a": 2},
    ]


def test_lines_in_utf16_are_refused(tmp_path: Path) -> None:
    for codec in ("utf-16", "utf-16-le", "utf-16-be"):
        with pytest.raises(DataError, match=r"UTF-16.*iconv"):
            all_records(written(tmp_path, '{"a": 1}\n'.encode(codec), "a.jsonl"))
    rows = all_records(written(tmp_path, b'{"a": 1}\n' + bytes(100), "a.jsonl"))
    assert reasons(rows) == [{"a": 1}, "malformed_record"]


@given(st.text(alphabet='[]{}",:\\ 1ae\n', max_size=40), st.integers(1, 20))
def test_the_window_never_decides(tmp_path_factory: pytest.TempPathFactory, text: str, window: int) -> None:
    """Whatever stands in the file: the same records, or the same error, for any window."""
    path = written(tmp_path_factory.getbasetemp(), "[" + text, "odd.json")

    def outcome() -> Any:
        try:
            return str(reasons(all_records(path, 3)))
        except DataError as error:
            return str(error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_spans, "_WINDOW", window)
        found = outcome()
    assert found == outcome()


# ---- long records


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".json.gz", ".jsonl.gz"])
def test_a_long_record_costs_its_row_and_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(json_spans, "_WINDOW", 64)
    limits, lines = Limits(text=1000), suffix.startswith(".jsonl")
    fits, long = [json.dumps({"a": "x" * size}) for size in (990, 2000)]
    rows = ['{"a": 1}', long, fits, '{"a": 3}', long]
    path = tmp_path / f"a{suffix}"
    data = ("\n".join(rows) if lines else f"[{', '.join(rows)}]").encode()
    path.write_bytes(gzip.compress(data) if suffix.endswith(".gz") else data)
    parts = slices(path, path.name, 9)
    found = [record for part in parts for _, record in read(path, part, limits)]
    assert reasons(found) == [{"a": 1}, "row_too_large", json.loads(fits), {"a": 3}, "row_too_large"]
    assert "JSON of 2,0" in found[1].detail


def test_long_lines_of_a_compressed_file_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images in base64: going back to the beginning of a line would start the decompression again."""
    row = json.dumps({"a": "x" * 3_000_000}).encode()
    path = packed(tmp_path / "a.jsonl.gz", b"\n".join([row] * 20))
    starts = []
    whole = streams._Inflated._restart
    monkeypatch.setattr(streams._Inflated, "_restart", lambda self: (starts.append(1), whole(self)))
    assert len(all_records(path, 7)) == 20
    assert len(starts) == 2  # to find the parts, and to read them


_PEAK = """
import sys
from pathlib import Path
from stages.sources.records.slices import read, slices
path = Path(sys.argv[1])
parts = slices(path, path.name, 1024)
rows = sum(1 for part in parts for _ in read(path, part))
# Of this program alone: ru_maxrss would begin with the memory of the process that started it
peak = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(len(parts), rows, peak)
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".json.gz", ".jsonl.zst"])
def test_a_large_file_is_read_in_little_memory(tmp_path: Path, suffix: str) -> None:
    path, rows = tmp_path / f"large{suffix}", 60_000
    record = json.dumps({"id": 1.0, "conversations": [{"from": "human", "value": "あ" * 550}]}).encode()
    start, between, end = (b"", b"\n", b"") if "jsonl" in suffix else (b"[", b",\n", b"]")
    with pa.output_stream(path, compression={".gz": "gzip", ".zst": "zstd"}.get(path.suffix)) as sink:
        sink.write(start + record)
        for _ in range(rows - 1):
            sink.write(between + record)
        sink.write(end)
    command = [sys.executable, "-c", _PEAK, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=250)
    assert done.returncode == 0, done.stderr
    parts, found, peak = map(int, done.stdout.split())
    assert (parts, found) == (-(-rows // 1024), rows)
    assert peak < 160_000, f"{peak:,} kB for 200 MB of records"  # 105 MB measured, 64 MB of it before the file is open
