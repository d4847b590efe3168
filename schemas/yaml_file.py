"""The YAML of recipes and training configs, read so that it means what a person meant, or is refused in one line.

What is read is the core of YAML 1.2: text, decimal numbers, true and false, null, lists, and mappings whose keys are
text. The YAML 1.1 of most programs takes `no` and `off` for false, 1:30 for 90, 010 for 8, 2024-01-01 for a date, and
1e-3 for text; here the last is a number and the others are text, which the type of a field then takes or refuses.

Refused with their line: a key given twice, a key that is not text, `<<`, tags (`!!python/name`), a second document, and
what is out of bounds: large files, deep nesting, aliases (`*name`) of aliases that would grow without end.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml.reader import ReaderError

from schemas.shown import shown_lines
from schemas.strict import RecipeError, brief

MOST_BYTES = 2**20
MOST_DEPTH = 50
MOST_VALUES = 100_000

_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMBER = re.compile(r"[-+]?((0|[1-9][0-9]*(_[0-9]+)*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")


def read(path: Path | str) -> dict[str, Any]:
    """The mapping that a file holds. Raises RecipeError."""
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file") from None
    except OSError as error:
        raise RecipeError(f"{path}: can't be read ({error.strerror})") from None
    if len(data) > MOST_BYTES:
        raise RecipeError(f"{path}: larger than {MOST_BYTES:,} bytes; that is no recipe and no config")
    try:
        value = parse(data.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: byte {error.start} is not UTF-8; save it as a text file in UTF-8") from None
    if not isinstance(value, dict):
        got = "nothing" if value is None else type(value).__name__
        raise RecipeError(f"{path}: got {got}, wanted a mapping of keys to values")
    return value


def parse(text: str, where: str) -> Any:
    """The value of a YAML text; `where` begins the errors. Raises RecipeError."""
    try:
        return _Document(text, where).value()
    except RecipeError:
        raise
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise RecipeError(f"{where} line {line}: the character U+{error.character:04X} can't stand in YAML") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RecipeError(f"{where} line {line}: not YAML: {error.problem}{_advice(error.problem or '')}") from None
    except (ValueError, OverflowError):
        # of PyYAML, for escapes such as "\UFFFFFFFF" and versions of many digits
        raise RecipeError(f"{where}: not YAML: a number in it is out of range") from None


def dump(value: Any) -> str:
    """YAML that reads back as the same value."""
    # what a terminal would obey stands in double quotes, where the escapes of `shown_lines` are YAML's own
    return shown_lines(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110))


def _advice(problem: str) -> str:
    if "'\\t'" in problem:
        return "; use spaces, not tabs"
    if "cannot start any token" in problem or "mapping values are not allowed" in problem:
        return "; put text with special characters in quotes"
    return ""


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes what `parse` would take for something else, and writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # PyYAML would leave text that YAML 1.1 takes for text as it is, and fold line ends of keys
    style = "'" if _NUMBER.fullmatch(text) else None if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _represent)


class _Document:
    """One document's events made into values. Recursion is as deep as the document, which is bounded."""

    def __init__(self, text: str, where: str) -> None:
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=yaml.SafeLoader)
        self._where = where
        self._named: dict[str, Any] = {}
        self._count = 0

    def value(self) -> Any:
        next(self._events)  # the stream begins
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        value = self._value(next(self._events), 0)
        next(self._events)  # the document ends
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            self._refuse(after, "a second document begins; one file holds one")
        return value

    def _value(self, event: Any, depth: int) -> Any:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._named:
                self._refuse(event, f"*{brief(event.anchor)} stands for nothing that ends above it")
            return self._again(event, self._named[event.anchor], depth)
        self._count_in(event, depth)
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._refuse(event, f"the tag {brief(tag)} is not read here; write the plain value")
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = [self._value(inner, depth + 1) for inner in self._until(yaml.SequenceEndEvent)]
        else:
            value = self._mapping(depth)
        if event.anchor is not None:
            self._named[event.anchor] = value
        return value

    def _until(self, end: type[yaml.Event]) -> Iterator[Any]:
        while not isinstance(event := next(self._events), end):
            yield event

    def _mapping(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for event in self._until(yaml.MappingEndEvent):
            key = self._key(event, depth)
            if key in found:
                self._refuse(event, f"the key {brief(key)!r} is given twice; keep one")
            found[key] = self._value(next(self._events), depth + 1)
        return found

    def _key(self, event: Any, depth: int) -> str:
        if isinstance(event, yaml.ScalarEvent) and event.style is None and event.value == "<<":
            self._refuse(event, "`<<` is not read here; write the keys out")
        if isinstance(event, yaml.CollectionStartEvent):
            self._refuse(event, "a list or a mapping is no key; a key is text")
        key = self._value(event, depth + 1)
        if not isinstance(key, str):
            self._refuse(event, f"the key {brief(getattr(event, 'value', key))} is no text; put it in quotes")
        return key

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        plain = event.style is None  # without quotes
        if plain and text in _CONSTANTS:
            return _CONSTANTS[text]
        if plain and _NUMBER.fullmatch(text):
            return self._number(event, text)
        try:
            # JSON writes a character beyond U+FFFF as two escapes
            text = text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self._refuse(event, f"half a character in {brief(text)}")
        if "\0" in text:
            self._refuse(event, f"a NUL in {brief(text)}")
        return text

    def _number(self, event: Any, text: str) -> int | float:
        try:
            value = float(text) if set(text) & set(".eE") else int(text)
        except ValueError:  # thousands of digits
            value = math.inf
        if value in (math.inf, -math.inf):
            self._refuse(event, f"{brief(text)} is too large for a number; put it in quotes if it is text")
        return value

    def _again(self, event: Any, value: Any, depth: int) -> Any:
        """A copy of what an alias stands for, counted as if it were written out."""
        self._count_in(event, depth)
        if isinstance(value, dict):
            again = [(self._again(event, k, depth + 1), self._again(event, v, depth + 1)) for k, v in value.items()]
            return dict(again)
        if isinstance(value, list):
            return [self._again(event, inner, depth + 1) for inner in value]
        return value

    def _count_in(self, event: Any, depth: int) -> None:
        self._count += 1
        if self._count > MOST_VALUES:
            self._refuse(event, f"more than {MOST_VALUES:,} values, with aliases written out")
        if depth > MOST_DEPTH:
            self._refuse(event, f"more than {MOST_DEPTH} lists and mappings inside each other")

    def _refuse(self, event: Any, message: str) -> NoReturn:
        raise RecipeError(f"{self._where} line {event.start_mark.line + 1}: {message}")
