"""`generate`: one question, a file of conversations that is gone on with, a chat; bad input is one line."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_train_answerer import examples
from tiny_shards import COLOURS, png

from train.__main__ import main
from train.inference import Answerer, Sampling
from train.inference.batch import Batch, BatchError
from train.inference.conversation import Answer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def rows(tmp_path):
    """500 rows of every kind; five of them broken."""
    for colour in COLOURS:
        (tmp_path / f"{colour}.png").write_bytes(png(colour, (16, 16)))
    (tmp_path / "cut.png").write_bytes(png("red", (32, 32))[:70])
    (tmp_path / "text.png").write_text("no picture")
    made = []
    for number in range(500):
        colour = list(COLOURS)[number % 3]
        image = {"type": "image", "image": f"{colour}.png"}
        content = [image, {"type": "text", "text": "Which colour?"}]
        made.append(
            [
                {"id": number, "messages": [{"role": "user", "content": content}], "wanted": colour},
                {"id": number, "image": f"{colour}.png", "question": "Which colour?", "wanted": colour},
                {"id": number, "image": ["red.png", f"{colour}.png"], "question": "Which colour is second?"},
                {"id": number, "question": "Say yes.", "wanted": "yes"},
            ][number % 4]
        )
    lines = [json.dumps(row, ensure_ascii=False) for row in made]
    lines[7] = json.dumps({"id": 7, "image": "no.png", "question": "Which colour?"})
    lines[100] = json.dumps({"id": 100, "image": "cut.png", "question": "Which colour?"})
    lines[101] = json.dumps({"id": 101, "image": "text.png", "question": "Which colour?"})
    lines[102] = '{"id": 102, "question"'
    lines[499] = json.dumps({"id": 499, "question": "many words " * 300})
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


BROKEN = {
    7: "no.png: can't be read",
    100: "image_truncated",
    101: "image_unreadable",
    102: "not JSON",
    499: "tokens, and",
}


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_file_of_conversations_is_answered_row_by_row(learnt, rows, capsys):
    out = rows.with_name("out.jsonl")
    assert main(["generate", str(learnt), "--conversations", str(rows), "--out", str(out)]) == 0
    assert "500 rows, 5 failed" in capsys.readouterr().out
    found = read(out)
    assert len(found) == 500
    for number, row in enumerate(found):
        assert row.get("id", 102) == number
        if number in BROKEN:
            assert row["finish"] == "error" and row["answer"] == "" and BROKEN[number] in row["error"]
        else:
            assert row["finish"] == "stop" and row["error"] is None
    known = [row for row in found if "wanted" in row and row["finish"] != "error"]
    assert sum(row["answer"] == row["wanted"] for row in known) > 0.9 * len(known)


HOSTILE = {
    rb'{"question": "a\ud800b"}': "half a character",
    rb'{"image": "\ud800.png", "question": "Say yes."}': "can't be read",
    rb'{"messages": [{"role": "\ud800", "content": "a"}]}': "its role is",
    rb'{"id": "\udcff", "question": "Say yes."}': None,
    '{"question": "日本語ですか"}'.encode("shift_jis"): "not JSON ('utf-8' codec can't decode",
    '["日本"]'.encode(): 'got ["日本"], wanted an object',
}


def test_a_row_of_bytes_that_are_no_text_stops_no_other(learnt, tmp_path):
    path, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    path.write_bytes(b"\n".join([*HOSTILE, b'{"id": "last", "question": "Say yes."}']))
    assert Batch(path, out, {}, Sampling(9)).run(Answerer.open(learnt))[:3] == (len(HOSTILE) + 1, 5, 0)
    *found, last = read(out)
    assert last["id"] == "last" and last["answer"] == "yes" and found[3]["id"] == "\udcff"
    for row, told in zip(found, HOSTILE.values(), strict=True):
        assert row["error"] is None if told is None else told in row["error"]


@pytest.mark.slow
def test_a_batch_that_was_killed_goes_on(learnt, rows, tmp_path):
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "train", "generate", str(learnt), "--conversations", str(rows), "--slots", "2"]
    process = subprocess.Popen([*command, "--out", str(out)], cwd=ROOT, stdout=subprocess.DEVNULL)
    while not (out.exists() and out.stat().st_size > 2000):
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = out.read_bytes()
    assert before.count(b"\n") < 500
    with out.open("ab") as half:
        half.write(b'{"id": 12, "mess')
    done = subprocess.run([*command, "--out", str(out)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"500 rows, {before.count(chr(10).encode())} of them before, 5 failed" in done.stdout
    assert main(["generate", str(learnt), "--conversations", str(rows), "--out", str(whole)]) == 0
    assert out.read_bytes() == whole.read_bytes() and out.read_bytes().startswith(before)


def test_answers_of_something_else_are_not_gone_on_with(learnt, rows, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    answerer, few = Answerer.open(learnt), tmp_path / "few.jsonl"
    few.write_text("".join(rows.read_text().splitlines(keepends=True)[:9]))

    def batch(source=few, model=answerer.identity, sampling=9, channels=False):
        return Batch(source, out, model, Sampling(sampling), channels).run(answerer)

    assert batch()[:3] == (9, 1, 0) and batch()[:3] == (9, 1, 9)
    for changes in ({"source": rows}, {"model": "b"}, {"sampling": 8}, {"channels": True}):
        with pytest.raises(BatchError, match=r"out.jsonl: holds answers of another \w+; give another --out"):
            batch(**changes)
    for damaged in ("[1]\n", '{"finish"\n', "{}\n"):
        out.write_text(damaged)
        with pytest.raises(BatchError, match=r"out.jsonl:1: is no answer; give another --out"):
            batch()
    beside = out.with_name("out.jsonl.of.json")
    beside.write_text("[]")
    with pytest.raises(BatchError, match="holds answers of another input"):
        batch()
    beside.unlink()
    out.write_text("{}\n" * 9)
    assert main(["generate", str(learnt), "--conversations", str(few), "--out", str(out)]) == 2
    assert "is there and not a file of answers" in capsys.readouterr().err
    assert len(read(out)) == 9
    with pytest.raises(BatchError, match="can't be read"):
        batch(source=tmp_path / "no.jsonl")


def test_two_processes_do_not_write_one_file(learnt, rows, tmp_path):
    answerer, out = Answerer.open(learnt), tmp_path / "out.jsonl"
    batch = Batch(rows, out, "a", Sampling(2))

    class Twice:
        def answers(self, conversations, sampling):
            with pytest.raises(BatchError, match="being written by another process"):
                batch.run(answerer)
            return answerer.answers(conversations, sampling)

    assert batch.run(Twice()).lines == 500


def test_the_four_examples_from_the_command_line(learnt, tmp_path, capsys):
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    rows.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in examples(tmp_path)))
    assert main(["generate", str(learnt), "--conversations", str(rows), "--out", str(out)]) == 0
    assert [row["answer"] for row in read(out)][1:] == ["red", "blue", "red"]
    capsys.readouterr()
    pair = ["--image", str(tmp_path / "a.png"), "--image", str(tmp_path / "b.png")]
    assert main(["generate", str(learnt), *pair, "Which colour is second?"]) == 0
    assert main(["generate", str(learnt), "Say yes.", "--max-new-tokens", "9", "--temperature", "0.01"]) == 0
    assert capsys.readouterr().out == "blue\nyes\n"


def test_a_chat_keeps_what_was_said_and_survives_mistakes(learnt, tmp_path, monkeypatch, capsys):
    examples(tmp_path)
    lines = ["/image no.png", f"/image {tmp_path / 'a.png'}", "Which colour?", "", "何色?", "/what", "/new", "Say yes."]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
    assert main(["generate", str(learnt), "--chat"]) == 0
    told = capsys.readouterr()
    assert [line for line in told.out.splitlines() if "/image PATH" not in line] == ["red", "red", "yes"]
    assert told.err.startswith("error: no.png: can't be read") and told.err.count("\n") == 1


def test_a_chat_tells_at_once_what_it_can_not_show(learnt, tmp_path, monkeypatch, capsys):
    """And no broken picture spoils what is asked after it."""
    (tmp_path / "text.png").write_text("no picture")
    told = {
        b"/image": "/image shows no image; give its path",
        f"/image {tmp_path / 'text.png'}".encode(): "image_unreadable",
        b"a\xff": "half a character",
        b"Say yes.": None,
    }
    for count in range(1, len(told) + 1):
        lines = io.TextIOWrapper(io.BytesIO(b"\n".join(list(told)[:count])), encoding="utf-8")
        monkeypatch.setattr(sys, "stdin", lines)
        assert main(["generate", str(learnt), "--chat"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "yes\n"
    errors = shown.err.splitlines()
    assert len(errors) == 1 + 2 + 3 + 3
    assert all(want in line for want, line in zip(list(told.values())[:3], errors[-3:], strict=True))


def test_an_image_that_no_answer_came_of_does_not_stay(learnt, tmp_path, monkeypatch, capsys):
    (tmp_path / "a.png").write_bytes(png("red", (16, 16)))
    lines = [f"/image {tmp_path / 'a.png'}", "many words " * 300, "Say yes."]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
    assert main(["generate", str(learnt), "--chat"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "yes\n" and "tokens, and" in shown.err
    assert "images that waited are forgotten: 1" in shown.err and shown.err.count("\n") == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "nothing to answer"),
        (["a", "--chat"], "QUESTION is one question"),
        (["a", "b"], "unrecognized arguments"),
        (["--chat", "--image", "a.png"], "--image goes with QUESTION"),
        (["--conversations", "a.jsonl"], "--out and --conversations go together"),
        (["a", "--temperature", "-1"], "wanted a number, 0 or more"),
        (["a", "--temperature", "abc"], "got abc, wanted a number, 0 or more"),
        (["a", "--top-p", "0"], "wanted a number above 0 and up to 1"),
        (["a", "--top-p", "half"], "got half, wanted a number above 0"),
        (["a", "--seed", "1.5"], "got 1.5, wanted a whole number"),
        (["a", "--seed", str(2**63)], "wanted a whole number of 64 bits"),
        (["a", "--slots", "many"], "got many, wanted a whole number"),
        (["a", "--max-new-tokens", "0"], "wanted at least 1"),
    ],
)
def test_a_wrong_command_line_is_one_line(learnt, words, told, capsys):
    assert main(["generate", str(learnt), *words]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


@pytest.mark.parametrize("words", [["a", "--image", "no.png"], ["many words " * 300], [" "], ["a\udcff"]])
def test_one_question_that_can_not_be_answered_fails(learnt, words, capsys):
    assert main(["generate", str(learnt), *words]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1


@pytest.mark.parametrize("words", [["--conversations", "rows.jsonl", "--out", "out"], ["Say yes."], ["--chat"]])
def test_an_interrupt_says_what_is_true(learnt, words, tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Answerer, "_run", interrupted)
    monkeypatch.setattr(sys, "stdin", io.StringIO("Say yes."))
    (tmp_path / "rows.jsonl").write_text('{"question": "Say yes."}\n')
    assert main(["generate", str(learnt), *words]) == 130
    goes_on = "; the same command goes on after the answers that are written" if len(words) > 1 else ""
    assert capsys.readouterr().err == f"interrupted{goes_on}\n"


def test_a_row_may_say_how_it_is_answered(learnt, tmp_path):
    """Temperature, share, seed and length of its own; what it does not say is as for all; wrong is its own failure."""
    question = {"question": "Say yes. Which colour? red blue"}
    hot = {**question, "temperature": 5.0}
    rows = [question, {**hot, "seed": 1}, {**hot, "seed": 2}, {**hot, "seed": 1}, {**hot, "seed": 2, "top_p": 1e-9}]
    rows += [{**hot, "seed": None, "max_new_tokens": 1}, {"messages": [{"role": "user", "content": "a"}], "seed": 3}]
    wrong = [{"temperature": "hot"}, {"temperature": -1}, {"top_p": 0}, {"top_p": True}, {"seed": 1.5}, {"seed": 2**63}]
    wrong += [{"max_new_tokens": 0}, {"max_new_tokens": 2.0}]
    rows += [{**question, **each} for each in wrong]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answerer, of_all = Answerer.open(learnt, slots=4), Sampling(6)
    Batch(tmp_path / "rows.jsonl", tmp_path / "out.jsonl", answerer.identity, of_all).run(answerer)
    found = read(tmp_path / "out.jsonl")
    texts = [row["answer"] for row in found]
    assert texts[1] == texts[3] != texts[2] and texts[4] == texts[0]
    for number, sampling in (
        (0, of_all),
        (1, Sampling(6, 5.0, 1.0, 1)),
        (5, Sampling(1, 5.0)),
        (6, Sampling(6, seed=3)),
    ):
        row = rows[number]
        messages = row.get("messages", [{"role": "user", "content": row.get("question")}])
        assert texts[number] == answerer.answer(messages, (), sampling)
    for row, told in zip(found[7:], wrong, strict=True):
        [name] = told
        assert row["finish"] == "error" and row["error"].startswith(f"{name}: got ")


class Loses:
    """Answers all but the second."""

    def answers(self, conversations, sampling=None):
        yield from ((number, Answer("yes")) for number, _ in enumerate(conversations) if number != 1)


def test_a_row_without_an_answer_is_an_error_and_never_nothing(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"question": "a?"}\n' * 3)
    batch = Batch(tmp_path / "in.jsonl", tmp_path / "out.jsonl", {"name": "x", "content": "1"}, Sampling())
    with pytest.raises(BatchError, match="2 rows got no answer"):  # the second, and the third behind it
        batch.run(Loses())
    assert len(read(tmp_path / "out.jsonl")) == 1
