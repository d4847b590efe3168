"""What of a turn is prose: the text in which a language can be seen.

Out go code blocks and spans, LaTeX, markup and placeholders (`<b>`, `<image>`, `<|end|>`, `&amp;`), addresses, e-mail,
file paths, keys of JSON, format marks (`%s`, `{name}`, `--flag`, `snake_case`), numbers and signs. A short piece of
lost prose is harmless, a piece of code that is judged is not.

The time is linear in the text's length: of a long text three windows are looked at, and what is left of them is cut to
its beginning and its middle, the same each time. No expression looks further than its window.
"""

from __future__ import annotations

import re

WINDOW = 2_000  # characters of the beginning, the middle and the end of a longer text
JUDGED = 600  # characters of prose that are judged at most

_BLOCKS = re.compile(
    r"```.*?(?:```|\Z)"
    r"|<(code|pre|script|style|math)\b[^<>]{0,200}>.{0,2000}?</\1>"
    r"|`[^`\n]{1,200}`"
    r"|\$\$.{1,1000}?\$\$|\\\[.{1,1000}?\\\]|\\\(.{1,300}?\\\)"
    r"|\\begin\{([a-z*]{1,20})\}.{0,1500}?\\end\{\2\}"
    r"|\$[^$\n]{1,200}\$",
    re.DOTALL,
)
_TAGS = re.compile(r"<[^<>]{0,300}>|\{[^{}\s]{0,60}\}|&#?\w{1,8};|\"[^\"\n]{0,60}\"\s{0,3}:")
_ADDRESSES = re.compile(r"[A-Za-z]{2,8}://[!-~]+|(?<![A-Za-z])www\.[!-~]+")
_EXTENSIONS = (
    r"(?:jpe?g|png|gif|svg|webp|pdf|txt|json|csv|py|js|ts|html?|xml|ya?ml|md|sh|c|h|cpp|java|mp[34]|zip|docx?)"
)
# Runs of printable ASCII that are no words, from their first character: a run is tried once.
_SYMBOLIC = re.compile(
    r"(?<![!-~])(?:"
    r"[^\s_=\\@$%^|~\x7f-\U0010ffff]*[_=\\@$%^|~][!-~]*"  # mail, escapes, names of code, format marks
    r"|[^\s/\x7f-\U0010ffff]*/[^\s/\x7f-\U0010ffff]*/[!-~]*|/[!-~]+"  # a path has two slashes or begins with one
    r"|--?[a-z][!-~]*"
    r"|[\w.-]{1,100}\." + _EXTENSIONS + r"\b)",
    re.ASCII,
)
_NO_WORDS = re.compile(r"[\s0-9*#+<>=^~|/\\_\[\](){}\"•·…—–“”«»]+")


def prose(text: str) -> str:
    """The prose of a text on one line; at most JUDGED characters."""
    whole = " ".join(_clean(window) for window in _windows(text)).strip()
    if len(whole) <= JUDGED:
        return whole
    half, middle = JUDGED // 2, len(whole) // 2
    return f"{whole[:half]} {whole[middle : middle + half]}"[:JUDGED]


def _windows(text: str) -> list[str]:
    if len(text) <= 3 * WINDOW:
        return [text]
    middle = len(text) // 2
    # A window that begins inside a code block begins with its fence
    fences = ["```" if text.count("```", 0, start) % 2 else "" for start in (middle, len(text) - WINDOW)]
    return [text[:WINDOW], fences[0] + text[middle : middle + WINDOW], fences[1] + text[-WINDOW:]]


def _clean(text: str) -> str:
    if "`" in text or "$" in text or "\\" in text or "<" in text:
        text = _BLOCKS.sub(" ", text)
    if "<" in text or "&" in text or '"' in text or "{" in text:
        text = _TAGS.sub(" ", text)
    if "://" in text or "www." in text:
        text = _ADDRESSES.sub(" ", text)
    # A lone surrogate (legal in JSON) has no UTF-8, which is all that the model reads.
    text = _NO_WORDS.sub(" ", _SYMBOLIC.sub(" ", text))
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
