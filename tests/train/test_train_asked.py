"""What rows of a file may say, and what of it is refused: nothing that was given is passed over in silence."""

from __future__ import annotations

import json
import os

import pytest
from tiny_shards import COLOURS, png

from train.__main__ import main
from train.inference import Answerer, Sampling, asked
from train.inference.batch import Batch

WHICH = "Which colour?"
BLOCK, TEXT = {"type": "image"}, {"type": "text", "text": WHICH}


@pytest.fixture
def answered(learnt, tmp_path):
    """Rows -> their answers; a colour's picture lies beside the rows."""
    for colour in COLOURS:
        (tmp_path / f"{colour}.png").write_bytes(png(colour, (16, 16)))

    def of(rows):
        lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
        (tmp_path / "rows.jsonl").write_bytes(b"\n".join(lines) + b"\n")
        out = tmp_path / "out.jsonl"
        out.unlink(missing_ok=True)
        out.with_name("out.jsonl.of.json").unlink(missing_ok=True)
        Batch(tmp_path / "rows.jsonl", out, {}, Sampling(9)).run(Answerer.open(learnt))
        return [json.loads(line, parse_constant=pytest.fail) for line in out.read_text().splitlines()]

    return of


def user(*blocks):
    return [{"role": "user", "content": list(blocks)}]


def test_images_beside_what_is_asked_are_shown(answered):
    rows = [
        {"question": WHICH, "images": "green.png"},
        {"question": WHICH, "images": ["red.png", "green.png"][1:]},
        {"question": WHICH, "image": {"path": "green.png"}},
        {"question": WHICH, "image": "", "images": [{"path": "green.png", "bytes": None}]},
        {"messages": user(BLOCK, TEXT), "image": "green.png"},
        {"messages": user(BLOCK, TEXT), "images": ["green.png"]},
        {"messages": user({**BLOCK, "image": {"path": "green.png"}}, TEXT)},
        {"messages": None, "question": WHICH, "image": "green.png"},
    ]
    assert [row["answer"] for row in answered(rows)] == ["green"] * len(rows)
    order = [{"question": "Which colour is second?", "images": ["red.png", "blue.png"]}]
    order += [{"messages": user(BLOCK, BLOCK, {"type": "text", "text": "Which colour is second?"})}]
    order[1]["images"] = ["red.png", "blue.png"]
    assert [row["answer"] for row in answered(order)] == ["blue", "blue"]


def test_images_that_no_place_is_for_are_told(answered):
    rows = {
        "images too many": {"messages": user(TEXT), "image": "green.png"},
        "says no image": {"messages": user(BLOCK, TEXT), "images": []},
        'has both "image" and "images"': {"question": WHICH, "image": "red.png", "images": ["green.png"]},
        "wanted the path of a file": {"question": WHICH, "image": {"bytes": "iVBORw"}},
        "nothing is asked": {"question": " \n", "image": []},
        "is empty, so nothing is asked": {"messages": user({**BLOCK, "image": "green.png"}) + user()},
        "write {'type': 'image'": {"messages": user({"type": "image_url", "image_url": {"url": "green.png"}}, TEXT)},
    }
    for row, told in zip(answered(list(rows.values())), rows, strict=True):
        assert row["finish"] == "error" and told in row["error"] and "\n" not in row["error"]


def test_no_image_is_an_empty_path(answered):
    rows = [{"question": "Say yes.", "image": none} for none in ("", None, [])]
    assert [row["answer"] for row in answered(rows)] == ["yes"] * 3


def test_an_image_alone_is_asked(answered):
    [row] = answered([{"question": "", "image": "green.png"}])
    assert row["error"] is None and row["finish"] == "stop"


def test_only_files_are_read_and_no_large_ones(answered, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large.png").open("wb") as large:
        large.truncate(asked.MAX_BYTES + 1)
    rows = [{"question": WHICH, "image": path} for path in ("pipe", "/dev/zero", ".", "large.png")]
    found = [row["error"] for row in answered(rows)]
    assert all("is no file" in error for error in found[:3]) and "bytes, at most 67,108,864" in found[3]


def test_what_a_row_has_under_our_names_is_kept(answered):
    """Answers of one model can be asked of another, and of a third."""
    row = {"question": "Say yes.", "answer": "a reference", "error": 3, "finish": None, "id": 7}
    once = {"question": "Say yes.", "id": 7, "given_answer": "a reference", "given_finish": None, "given_error": 3}
    ours = {"answer": "yes", "finish": "stop", "error": None}
    [first] = answered([row])
    assert first == {**once, **ours}
    [again] = answered([first])
    assert again == {**once, **ours, "given_given_answer": "yes", "given_given_finish": "stop"} | {
        "given_given_error": None
    }


def test_what_can_not_be_written_back_is_a_failed_row(answered):
    rows = [b'{"question": "Say yes.", "loss": %s}' % number for number in (b"1e999", b"-1e999", b"NaN", b"Infinity")]
    found = answered([*rows, b'{"question": "Say yes.", "loss": 1e99}'])
    assert all("is no number" in row["error"] for row in found[:4])
    assert found[4]["loss"] == 1e99 and found[4]["answer"] == "yes"


def test_a_mark_of_byte_order_and_blank_lines_are_no_rows(answered):
    rows = [b'\xef\xbb\xbf{"question": "Say yes."}', b"", b'{"question": "Say yes.", "id": 2}', b" "]
    assert [row["answer"] for row in answered(rows)] == ["yes", "yes"]
    assert answered([b"\xef\xbb\xbf"]) == []


def test_the_terminal_tells_why_rows_failed(learnt, tmp_path, capsys):
    """The most frequent reasons first, those of rows from before among them."""
    rows = [{"image": f"{number}.png", "question": WHICH} for number in range(9)] + [{}] * 3
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["generate", str(learnt), "--conversations", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "out")]
    for _ in range(2):
        assert main(words) == 0
        done, first, *others = capsys.readouterr().out.splitlines()
        assert "12 failed" in done and first.startswith('failed: 3 x wanted "messages"')
        assert len(others) == 4 and all("1 x" in line and "can't be read" in line for line in others)
