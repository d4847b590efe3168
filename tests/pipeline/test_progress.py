"""What is printed while a step runs: parts, rate, time left and outcome, and the work of earlier runs apart from it."""

from __future__ import annotations

import io
import re

import pytest

from pipeline.run.progress import Screen, StepProgress
from schemas.manifest import Counts


def test_a_running_step_says_parts_rate_time_left_and_what_was_left_out() -> None:
    step = StepProgress("ingest fine", 4, 1000)
    assert "waiting for the first part" in step.line()
    step.add(Counts(250, 240, {}, {"image_missing": 7, "image_truncated": 3}), 250, 1, 10.0)
    line = step.line()
    assert "1/4 parts" in line and "25 samples/s" in line and "0:30 left" in line
    assert "250 in, 240 kept, 10 rejected" in line


def test_a_rate_counts_from_the_beginning_of_the_first_task_and_not_from_that_of_the_workers() -> None:
    step = StepProgress("ingest fine", 4, 1000)
    step.opened -= 60.0
    step.add(Counts(250, 250), 250, 1, 5.0)
    assert "50 samples/s  0:15 left" in step.line()


def test_parts_of_an_earlier_run_count_as_done_but_not_as_speed() -> None:
    step = StepProgress("language", 4, 1000)
    for _ in range(3):
        step.add(Counts(250, 250), 250, 1, None)
    assert "waiting for the first part" in step.line()
    step.add(Counts(250, 200, {"wrong_language": 50}), 250, 1, 25.0)
    assert "10 samples/s  0:00 left" in step.line()
    assert "4/4 parts (3 from an earlier run)  1,000 in, 950 kept, 50 dropped" in step.last()


def test_bytes_that_are_there_before_their_file_is_whole_count_as_progress() -> None:
    there = [5_000_000]
    step = StepProgress("download fine", 2, 40_000_000, "bytes", lambda: there[0], "files")
    step.opened -= 10.0
    there[0] = 25_000_000
    line = step.line()
    assert "0/2 files" in line and "2.0 MB/s" in line and "0:07 left" in line


def test_without_a_terminal_every_step_at_work_prints_a_line_when_it_is_time_and_one_that_stays() -> None:
    stream = io.StringIO()
    with Screen(stream) as screen:
        one, other = StepProgress("ingest a", 2, 20), StepProgress("ingest b", 2, 20)
        screen.begin(one)
        screen.begin(other)
        screen.tick()
        assert stream.getvalue() == ""
        screen.tick(every=0.0)
        assert [line[:8] for line in stream.getvalue().splitlines()] == ["ingest a", "ingest b"]
        screen.end(one, "; a note")
        screen.tick(every=0.0)
    last, still = stream.getvalue().splitlines()[2:]
    assert last.startswith("ingest a") and last.endswith("s; a note") and still.startswith("ingest b")


class Terminal(io.StringIO):
    """What a person sits before. `shown`: the lines that are left on it, by the only commands that are sent to it."""

    def isatty(self) -> bool:
        return True

    @property
    def shown(self) -> list[str]:
        lines, at = [""], 0
        for piece in re.findall(r"\x1b\[[?\d]*[A-Zhlm]|\r|\n|[^\x1b\r\n]+", self.getvalue()):
            if piece == "\n":
                at += 1
                lines += [""] * (at == len(lines))
            elif piece == "\x1b[1A":
                at -= 1
            elif piece == "\x1b[2K":
                lines[at] = ""
            elif piece[0] not in "\r\x1b":
                lines[at] += piece
        return [line for line in lines if line]


def test_a_terminal_shows_the_steps_at_work_and_keeps_what_is_said_and_the_lines_that_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    stream = Terminal()
    with Screen(stream) as screen:
        one, other = StepProgress("ingest a", 2, 20), StepProgress("ingest [b]", 2, 20)
        screen.begin(one)
        screen.begin(other)
        for _ in range(3):
            screen.tick(every=0.0)
        assert [line[:10] for line in stream.shown] == ["ingest a  ", "ingest [b]"]
        screen.say("a [word] " * 20)
        screen.end(one)
        screen.tick(every=0.0)
        word, last, still = stream.shown
        assert word == "a [word] " * 20 and re.match(r"ingest a .* 0\.\d s$", last) and still.startswith("ingest [b]")
    assert stream.shown == [word, last]
    assert stream.getvalue().rindex("\x1b[?25h") > stream.getvalue().rindex("\x1b[?25l")


def test_the_terminal_is_left_as_it_was_where_a_step_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with pytest.raises(KeyError), Screen(stream) as screen:
        screen.begin(StepProgress("ingest a", 2, 20))
        screen.tick(every=0.0)
        raise KeyError
    assert stream.shown == [] and "\x1b[?25h" in stream.getvalue()
