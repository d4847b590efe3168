"""A file of conversations -> a file of answers, line for line, in order; killed and started again it goes on.

    in    {"messages": [...], ...} in the chat-template shape, or {"question": text, ...}; "image" or "images", one path
          or a list of them, are for the blocks of messages that say none, or come before the question;
          "temperature", "top_p", "seed" and "max_new_tokens" of a row are for it instead of those for all
    out   the same row with "answer", "finish" and "error"; a row that can't be answered is one of them. What a row has
          under one of these names, as a reference may be, is under "given_answer" and so on. Blank lines have no line
    out.of.json   what the answers are of: the input, the model, the sampling

Paths are relative to the input's folder. Started again, half a line at the end is cut off and rows that have their
line are passed over, once it is proven that the lines are of the same input, model and sampling.
"""

from __future__ import annotations

import codecs
import fcntl
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from schemas.manifest import hash_file
from train.inference import asked
from train.inference.conversation import Answer, Answers, Conversation, Sampling
from train.inference.errors import PromptError
from train.inference.prompt import is_text

Row = dict[str, Any]


class BatchError(ValueError):
    """A file that can't be answered or written: one line."""


class Done(NamedTuple):
    """Lines of the whole file, of which `failed` have no answer, and those that were there already; why they failed."""

    lines: int
    failed: int
    before: int
    errors: Counter[str]


@dataclass(frozen=True)
class Batch:
    """`model`: its identity; `channels`: whether rows have what was said beside the answer, too."""

    source: Path
    out: Path
    model: dict[str, str]
    sampling: Sampling
    channels: bool = False

    def run(self, answerer: Answers) -> Done:
        """Raises BatchError."""
        identity = self._identity()
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            with self.beside.open("a+", encoding="utf-8") as beside:
                _lock(beside, self.out)
                self._prove(beside, identity)
                before, errors = self._whole_lines()
                with self.out.open("a", encoding="utf-8") as out:
                    lines = self._write(answerer, before, out, errors)
        except OSError as error:
            raise BatchError(
                f"{error.filename or self.out}: {error.strerror}; mend that or give another --out"
            ) from None
        return Done(before + lines, errors.total(), before, errors)

    @property
    def beside(self) -> Path:
        return self.out.with_name(f"{self.out.name}.of.json")

    def _identity(self) -> dict[str, Any]:
        try:
            source = hash_file(self.source)
        except OSError as error:
            raise BatchError(f"{self.source}: can't be read ({error.strerror}); give a JSONL file") from None
        return {"input": source, "model": self.model, "sampling": asdict(self.sampling), "channels": self.channels}

    def _prove(self, beside: TextIO, identity: dict[str, Any]) -> None:
        """Raise BatchError unless there are no answers yet, or they are of this very batch."""
        beside.seek(0)
        text = beside.read()
        if not text:
            if self.out.exists() and self.out.stat().st_size:
                raise BatchError(f"{self.out}: is there and not a file of answers; give another --out")
            beside.write(json.dumps(identity) + "\n")
            beside.flush()
            return
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        found = found if isinstance(found, dict) else {}
        for key, wanted in identity.items():
            if found.get(key) != wanted:
                raise BatchError(
                    f"{self.out}: holds answers of another {key}; give another --out, or delete it and "
                    f"{self.beside.name}"
                )

    def _whole_lines(self) -> tuple[int, Counter[str]]:
        """How many rows have their line, and why some failed; what is after the last whole line is cut off."""
        lines, end, errors = 0, 0, Counter[str]()
        if not self.out.exists():
            return lines, errors
        with self.out.open("rb+") as out:
            for line in out:
                if not line.endswith(b"\n"):
                    break
                lines, end = lines + 1, end + len(line)
                errors.update(self._error(line, lines))
            out.truncate(end)
        return lines, errors

    def _error(self, line: bytes, number: int) -> list[str]:
        """Why the row of a line failed, if it did."""
        try:
            found = json.loads(line)
            return [str(found["error"])] if found["finish"] == "error" else []
        except (ValueError, KeyError, TypeError):
            raise BatchError(
                f"{self.out}:{number}: is no answer; give another --out, or delete it and {self.beside.name}"
            ) from None

    def _write(self, answerer: Answers, before: int, out: TextIO, errors: Counter[str]) -> int:
        """How many lines; why some of them failed is counted, too."""
        written, asked_rows = _InOrder(out, self.channels, errors), dict[int, int]()

        def conversations() -> Iterator[Conversation]:
            asked_so_far = itertools.count()
            for number, line in enumerate(itertools.islice(_lines(self.source), before, None)):
                try:
                    row = written.begin(number, line)
                    conversation = _conversation(row, self.source.parent, _sampling(row, self.sampling))
                except PromptError as error:
                    written.end(number, Answer("", "error", str(error)))
                    continue
                asked_rows[next(asked_so_far)] = number
                yield conversation

        for number, answer in answerer.answers(conversations(), self.sampling):
            written.end(asked_rows.pop(number), answer)
        if written.open:
            raise BatchError(f"{self.out}: {written.open:,} rows got no answer; the same command asks them again")
        return written.lines


class _InOrder:
    """Writes rows with their answers; who is early waits for those before."""

    def __init__(self, out: TextIO, channels: bool, errors: Counter[str]) -> None:
        self._out, self._channels, self._errors = out, channels, errors
        self._rows: dict[int, Row] = {}
        self._ready: dict[int, Answer] = {}
        self.lines = 0

    @property
    def open(self) -> int:
        """Rows that are under way, or whose turn has not come."""
        return len(self._rows)

    def begin(self, number: int, line: bytes) -> Row:
        """A row is under way. Raises PromptError if it is none."""
        self._rows[number] = {}
        self._rows[number] = _row(line)
        return self._rows[number]

    def end(self, number: int, answer: Answer) -> None:
        self._ready[number] = answer
        while self.lines in self._ready:
            self._line(self._rows.pop(self.lines), self._ready.pop(self.lines))

    def _line(self, row: Row, answer: Answer) -> None:
        told: Row = {"answer": answer.text, "finish": answer.finish, "error": answer.error}
        if self._channels:
            told["channels"] = [list(channel) for channel in answer.channels]
        self._out.write(_json({**_renamed(row, told), **told}) + "\n")
        self._out.flush()
        self.lines += 1
        self._errors.update([str(answer.error)] if answer.finish == "error" else [])


def _lines(path: Path) -> Iterator[bytes]:
    """Those that are not blank, without the mark that some programs put before the first."""
    with path.open("rb") as lines:
        first = next(lines, b"").removeprefix(codecs.BOM_UTF8)
        yield from (line for line in itertools.chain([first], lines) if line.strip())


def _renamed(row: Row, told: Row) -> Row:
    """A row that keeps, under another name, what it has under one of ours."""
    kept = dict(row)
    for name in [name for name in told if name in row]:
        other = f"given_{name}"
        while other in kept:
            other = f"given_{other}"
        kept[other] = kept.pop(name)
    return kept


def _json(row: Row) -> str:
    """On one line; what is no text, half a surrogate pair, is escaped as it was read."""
    line = json.dumps(row, ensure_ascii=False)
    return line if is_text(line) else json.dumps(row)


def _row(line: bytes) -> Row:
    """What is no text is a row that can't be read, and no more."""
    try:
        found = json.loads(line.decode(), parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise PromptError(f"not JSON ({error}); each line is an object with messages, or image and question") from None
    if not isinstance(found, dict):
        told = line.decode().strip()[:60]
        raise PromptError(f"got {told}, wanted an object with messages, or image and question")
    return found


def _finite(number: str) -> float:
    """What JSON has no number for could not be written back."""
    if not math.isfinite(found := float(number)):
        raise ValueError(f"{number} is no number that can be written")
    return found


def _sampling(row: Row, of_all: Sampling) -> Sampling | None:
    """A row's own; null is as good as nothing said."""
    own = {each.name: row[each.name] for each in fields(Sampling) if row.get(each.name) is not None}
    try:
        return replace(of_all, **own) if own else None
    except ValueError as error:
        raise PromptError(str(error)) from None


def _conversation(row: Row, folder: Path, sampling: Sampling | None) -> Conversation:
    images = _images(row)
    if row.get("messages") is not None:
        return replace(asked.conversation(row["messages"], images, folder), sampling=sampling)
    if not isinstance(row.get("question"), str):
        raise PromptError('wanted "messages", or a text "question" with or without "image"')
    return replace(asked.question(row["question"], images, folder), sampling=sampling)


def _images(row: Row) -> list[Any]:
    """Of either key; null, "" and [] are none. Raises PromptError."""
    given = [row[name] for name in ("image", "images") if row.get(name) not in (None, "", [])]
    if len(given) > 1:
        raise PromptError('has both "image" and "images"; give all in one of them')
    return [one for each in given for one in (each if isinstance(each, list) else [each])]


def _lock(beside: TextIO, out: Path) -> None:
    try:
        fcntl.flock(beside, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BatchError(f"{out}: is being written by another process; wait for it or give another --out") from None
