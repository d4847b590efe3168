"""Real text in many languages from files that packages bring: what people translated, and test sentences.

  *.mo            gettext catalogues below a folder named like a language: translations of English sentences
  *.h, *.cc       test texts of CLD2 and CLD3: a C string in a constant that is named by the language
  examples.py     spaCy's example sentences, in a folder named by the language
  *.json          conversations with `language`, LLaVA's shape

Of a catalogue only translations of sentences count (four words in small letters, one line, not what the original says):
names of countries and of commands are of no language. A text belongs to the tuning half or to the test half by the hash
of its original, so that the translations of one sentence lie in the same half.
"""

from __future__ import annotations

import ast
import gettext
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_CODE = re.compile(r"[a-z]{2,3}")
_STRING = re.compile(
    r'kTest[Ss]tr_?([a-z]{2,3}|[A-Z]{2,3})(?:_[A-Za-z]+\d?)*(?:\[\])?\s*=\s*((?:"(?:[^"\\]|\\.)*"\s*)+);'
)
_SENTENCE = re.compile(r"(?<=[.!?。!?।؟۔])\s*(?=\S)")
_WORDS = re.compile(r"(?<![\w%<{-])[a-z]{2,}(?![\w%>}=])")
_SAME = {"no": "no", "nb": "no", "iw": "he", "in": "id", "zht": "zh", "fil": "tl", "cmn": "zh"}
_NAMES = ("iso_", "xkeyboard", "shared-mime", "mit-krb5", "opcodes")  # catalogues of names


class Text(NamedTuple):
    language: str
    text: str
    half: str
    origin: str


def texts(roots: list[Path]) -> Iterator[Text]:
    """Every text below the folders, each once."""
    seen: set[tuple[str, str]] = set()
    for root in roots:
        for path in sorted([root] if root.is_file() else root.rglob("*")):
            for language, text, key in _of(path):
                if (language, text) not in seen:
                    seen.add((language, text))
                    half = "tune" if hashlib.sha256(key.encode()).digest()[0] % 2 else "test"
                    yield Text(language, text, half, path.name)


def _of(path: Path) -> Iterator[tuple[str, str, str]]:
    if path.suffix == ".mo":
        yield from _catalogue(path)
    elif path.suffix in (".h", ".cc"):
        for language, literal in _STRING.findall(path.read_text("utf-8", "replace")):
            whole = "".join(ast.literal_eval(part) for part in re.findall(r'"(?:[^"\\]|\\.)*"', literal))
            if "\\x" in literal:
                whole = whole.encode("latin-1").decode("utf-8", "replace")  # spelled byte by byte
            yield from _pieces(_code(language.lower()), whole)
    elif path.name == "examples.py" and _CODE.fullmatch(path.parent.name):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and ">>>" not in node.value:
                yield _code(path.parent.name), node.value.strip(), node.value
    elif path.suffix == ".json":
        yield from _conversations(path)


def _catalogue(path: Path) -> Iterator[tuple[str, str, str]]:
    if len(path.parts) < 3 or path.parent.name != "LC_MESSAGES" or path.name.startswith(_NAMES):
        return
    folder = path.parts[-3].replace("-", "_")
    language = _code(folder.split("_")[0].lower())
    if re.search("@|lat[ni]|cyrl|arab", folder.lower()) or not language:
        return
    try:
        with path.open("rb") as file:
            found = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
    except (OSError, ValueError, IndexError):  # a broken one
        return
    for original, translated in found.items():
        if not (isinstance(original, str) and isinstance(translated, str)) or translated == original:
            continue  # a plural, or not translated
        if len(_WORDS.findall(original)) >= 4 and "\n" not in original.strip():
            yield language, translated.strip(), original
            yield "en", original.strip(), original


def _pieces(language: str, whole: str) -> Iterator[tuple[str, str, str]]:
    """A long text as it is, and its sentences."""
    whole = " ".join(whole.split())
    yield language, whole[:1500], whole
    for sentence in _SENTENCE.split(whole):
        yield language, sentence, whole


def _conversations(path: Path) -> Iterator[tuple[str, str, str]]:
    found = json.loads(path.read_text("utf-8"))
    for row in found if isinstance(found, list) else []:
        language = _code(str(row.get("language") or "").split("_")[0]) if isinstance(row, dict) else ""
        for turn in row["conversations"] if language else ():
            yield language, turn["value"], turn["value"]


def _code(name: str) -> str:
    return _SAME.get(name, name) if _CODE.fullmatch(name) else ""
