"""The log holds each step once, its sums are exact, and people see the steps they asked for."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from train import log
from train.log import Line, Show, Summary


def line(step: int, **changes) -> Line:
    known = {"epoch": 0, "loss": float(step), "gradient_norm": 1.0, "learning_rate": 0.5, "samples": 3, "tokens": 50}
    return Line(**{"step": step, **known, "targets": 7, "tiles": 2, "packs": 1, "seconds": 2.0, **changes})


@pytest.fixture
def written(tmp_path):
    for step in range(1, 6):
        log.append(tmp_path / "log.jsonl", line(step))
    return tmp_path / "log.jsonl"


def test_a_log_is_cut_by_step_and_not_by_line(written):
    """Lines are lost or double where something else has written to the log; each step stands in it once, in order."""
    lines = written.read_text().splitlines(keepends=True)
    written.write_text(lines[0] + lines[4] + lines[1] + "no line of ours\n[]\n{}\n\n" + lines[1] + lines[3])
    assert log.cut(written, 4, Line) == [line(1), line(2), line(4)]
    assert written.read_text() == lines[0] + lines[1] + lines[3]


@pytest.mark.parametrize("text", [b"\xff\xfe\n", b"[" * 100_000 + b"\n", b'{"step": NaN}\n', b"1\n"])
def test_a_log_that_is_none_is_an_empty_one(tmp_path, text):
    (tmp_path / "log.jsonl").write_bytes(text)
    assert log.cut(tmp_path / "log.jsonl", 4, Line) == []


def test_a_log_is_cut_whole_or_not_at_all(written, monkeypatch):
    """The disk is full: the lines of all steps are still there."""
    before = written.read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space left"):
            log.cut(written, 3, Line)
    assert written.read_bytes() == before


def test_a_log_is_cut_back_to_the_checkpoint(written):
    whole = written.read_text().splitlines()
    assert log.cut(written, 3, Line) == [line(1), line(2), line(3)]
    assert written.read_text().splitlines() == whole[:3]
    log.append(written, line(4))
    assert written.read_text().splitlines() == whole[:4]
    assert log.cut(written, 0, Line) == [] and written.read_text() == ""


@pytest.mark.parametrize("keep", [1, 30, -1])
def test_half_a_line_goes_even_where_the_checkpoint_is_ahead_of_the_log(written, keep):
    """The log is not flushed to the disk with each step: a power cut may leave less of it than the checkpoint says."""
    text = written.read_text()
    last = text.splitlines(keepends=True)[-1]
    written.write_text(text[: -len(last)] + last[:keep])
    assert log.cut(written, 7, Line) == [line(step) for step in range(1, 5)]
    assert written.read_text() == text[: -len(last)]


def test_without_a_log_one_is_begun(tmp_path):
    assert log.cut(tmp_path / "log.jsonl", 3, Line) == []
    assert (tmp_path / "log.jsonl").read_text() == ""


def test_a_summary_adds_up_and_compares_the_first_twenty_steps_with_the_last(tmp_path):
    lines = [line(step) for step in range(1, 46)]
    counts = {"steps": 45, "samples": 135, "tokens": 2250, "target_tokens": 315}
    wanted = Summary(
        **counts,
        first_loss=10.5,
        last_loss=35.5,
        steps_of_loss=20,
        seconds=90.0,
        samples_per_second=1.5,
        parameters=1234,
        checkpoint="step-000045",
    )
    assert log.summarise(lines, counts, 1234, "step-000045") == wanted
    log.write_summary(tmp_path / "summary.json", wanted)
    assert log.read_summary(tmp_path / "summary.json") == wanted


def test_lost_lines_change_no_count_and_no_other_mean():
    """Of 45 steps the log has 16 to 44: 5 of the first twenty, 19 of the last."""
    counts = {"steps": 45, "samples": 135, "tokens": 2250, "target_tokens": 315}
    summary = log.summarise([line(step) for step in range(16, 45)], counts, 1, "")
    assert (summary.steps, summary.samples, summary.first_loss, summary.last_loss) == (45, 135, 18.0, 35.0)
    empty = log.summarise([], counts, 1, "")
    assert (empty.steps, empty.first_loss, empty.samples_per_second) == (45, None, 0.0)
    assert "loss not in the log -> not in the log" in log.in_words(empty)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"steps": 3}', "\ud800", "[" * 100_000])
def test_a_damaged_summary_is_none(tmp_path, text):
    (tmp_path / "summary.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert log.read_summary(tmp_path / "summary.json") is None


def test_one_line_tells_the_mean_loss_the_speed_and_the_time_left():
    """Two steps of 2 and 4 s, 100 more to do: 300 s."""
    lines = [line(19, loss=2.0, tokens=5000), line(20, epoch=1, loss=1.0, seconds=4.0, samples=2097, tokens=13000)]
    wanted = "step 20/120  epoch 2  loss 1.5000  350 samples/s  3,000 tokens/s  left 5:00"
    assert log.describe(lines, 120) == wanted
    assert log.describe([line(1, seconds=61.0)], 2).endswith("left 1:01")


def shown(total: int, every: int, stdout: io.StringIO, monkeypatch) -> str:
    monkeypatch.setattr(sys, "stdout", stdout)
    with Show(total, every) as show:
        for step in range(1, total + 1):
            show(line(step))
    return stdout.getvalue()


def test_plain_lines_come_at_every_so_many_steps_and_at_the_end(monkeypatch):
    lines = shown(8, 3, io.StringIO(), monkeypatch).splitlines()
    assert [text.split("  ")[0] for text in lines] == ["step 3/8", "step 6/8", "step 8/8"]
    # each speaks of the steps since the one before it
    assert [text.split("loss ")[1].split()[0] for text in lines] == ["2.0000", "5.0000", "7.5000"]


def test_a_terminal_gets_a_bar_that_fills_and_no_lines(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setattr(sys, "stdout", Terminal())
    seen = []
    with Show(8, 3) as show:
        for step in range(1, 9):
            show(line(step))
            (task,) = show._bar.tasks
            seen.append((task.completed, task.total, task.description.split("  ")[0]))
    assert seen[1:7:2] + seen[7:] == [(0, 8, ""), (3, 8, "step 3/8"), (6, 8, "step 6/8"), (8, 8, "step 8/8")]
    text = sys.stdout.getvalue()
    assert "step 8/8" in text and text.count("\n") == 1  # at the end: a bar is drawn over itself
    assert "\x1b[?25l" in text and "\x1b[?25h" in text  # the cursor is hidden, and comes back


def test_lines_in_the_log_are_json_with_all_fields(written):
    first = json.loads(written.read_text().splitlines()[0])
    assert first == vars(line(1))
