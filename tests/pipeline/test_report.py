"""The report's page, read as a browser would: it says what report.json says, is inert, and obeys no name on it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.commands import funnel as funnels
from pipeline.commands import report
from pipeline.commands.funnel import Funnel
from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from schemas.manifest import Counts
from tests.pipeline.conftest import Corpus

HOSTILE = (
    "<script>alert(1)</script>",
    "</td></tr></table><img src=x onerror=alert(1)>",
    '"><a href="javascript:alert(1)">x</a>',
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt; & 猫",
    "--></style><style>@import 'http://example.org'</style>",
)
TAGS = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "section", "details", "summary"}
TAGS |= {"table", "thead", "tbody", "tr", "th", "td", "span", "code"}
ATTRIBUTES = {"lang", "charset", "name", "content", "http-equiv", "class", "id", "style", "colspan", "open"}
TOTALS = {"num_tokens": 20_000, "num_image_tokens": 0}


class Page(HTMLParser):
    """What a browser finds: tags, attributes, style, and the cells of every table by its id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.style, self.text = "", ""
        self.tables: dict[str, list[list[str]]] = {}
        self._rows: list[list[str]] = []
        self._cell = self._style = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        self._style = tag == "style"
        if tag == "table":
            self._rows = self.tables.setdefault(str(dict(attrs)["id"]), [])
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._cell = True
            self._rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._style = False
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._style:
            self.style += data
        if self._cell:
            self._rows[-1][-1] += data

    def table(self, name: str) -> list[list[str]]:
        return [[" ".join(cell.split()) for cell in row] for row in self.tables[name]]

    def check_inert(self) -> None:
        """Nothing is loaded from anywhere, nothing runs."""
        assert self.tags <= TAGS
        assert {name for name, _ in self.attributes} <= ATTRIBUTES
        assert not re.search(r"url\(|@import|expression|//", self.style)
        policy = "default-src 'none'; style-src 'unsafe-inline'"
        assert [value for name, value in self.attributes if name == "content"][-1] == policy
        assert all(re.fullmatch(r"width: \d+\.\d%", value or "") for name, value in self.attributes if name == "style")


def shown(number: int) -> str:
    return f"{number:,}" if number else "–"


def number(text: str) -> int:
    return 0 if text == "–" else int(text.replace(",", ""))


def ledgers(names: list[str]) -> dict[str, Counts]:
    """A ledger for each name, no two alike."""
    found = {}
    for n, name in enumerate(names, 1):
        rejected = {"ingest.image_missing": n, "ingest.no_conversation": 0} if n % 2 else {}
        dropped = {"dedupe.duplicate": 1000 * n, "quality.low_rating": n % 3}
        lost = sum(rejected.values()) + sum(dropped.values())
        found[name] = Counts(lost + 7 * n, 7 * n, dropped, rejected)
    return found


@pytest.fixture(scope="module")
def written(finished_run: tuple[Path, Context, list[Step]]) -> tuple[dict[str, Any], Page]:
    """report.json and report.html of the finished run."""
    path, context, _ = finished_run
    assert main(["report", str(path)]) == 0
    content = json.loads((context.out / "report.json").read_text(encoding="utf-8"))
    return content, Page((context.out / "report.html").read_text(encoding="utf-8"))


def test_the_report_is_the_truth(written: tuple[dict[str, Any], Page], corpus: Corpus) -> None:
    content, page = written
    rows_in, kept = sum(corpus.truth["rows_in"].values()), corpus.truth["kept"]
    rejected = sum(n for reasons in corpus.truth["rejected"].values() for n in reasons.values())
    assert (content["all"]["rows_in"], content["all"]["kept"]) == (rows_in, kept)
    text = " ".join(page.text.split())
    assert f"What became of {rows_in:,} rows" in text
    assert f"{kept:,} samples kept" in text
    assert f"{rows_in - kept - rejected:,} dropped, {rejected:,} rejected." in text


def test_every_number_of_the_page_is_that_of_the_json(written: tuple[dict[str, Any], Page]) -> None:
    content, page = written
    head, *rows = page.table("funnel")
    assert head == ["", *content["sources"], "all", ""]
    assert rows == [[row["what"], *map(shown, row["numbers"]), ""] for row in content["rows"]]
    assert page.table("steps")[1:] == [
        [step["folder"], shown(step["rows_in"]), shown(step["kept"]), step["identity"][:16]]
        for step in content["steps"]
    ]
    assert [row[1] for row in page.table("totals")] == [shown(n) for n in content["totals"].values()]
    assert page.table("reasons") == [[name, text] for name, text in content["reasons"].items()]
    used = {*content["all"]["dropped"], *content["all"]["rejected"]}
    assert set(content["reasons"]) == used and used


def test_in_is_kept_and_dropped_and_rejected_as_printed(written: tuple[dict[str, Any], Page]) -> None:
    _, *rows = written[1].table("funnel")
    labels = [row[0] for row in rows]
    assert labels[0] == "rows in" and labels[-1] == "kept"
    for column in zip(*(row[1:-1] for row in rows), strict=True):
        first, *rest = map(number, column)
        assert first == sum(rest) > 0


def test_the_page_loads_nothing(written: tuple[dict[str, Any], Page]) -> None:
    written[1].check_inert()


@pytest.mark.parametrize("many", [7, 185])
def test_many_sources_are_rows_and_the_page_does_not_grow_sideways(many: int) -> None:
    funnel = Funnel(ledgers([f"source_{n}" for n in range(many)]), TOTALS, 3, "out/07-pretokenise-12345678")
    page = Page(report.page(report.content(funnel, [])))
    page.check_inert()
    assert max(len(row) for rows in page.tables.values() for row in rows) <= 6
    whole = [[what, shown(numbers[-1]), ""] for what, numbers in funnels.rows(funnel)]
    assert page.table("funnel")[1:] == whole
    head, *rows, last = page.table("sources")
    assert head == ["", "rows in", "rejected", "dropped", "kept", "%"]
    assert [row[0] for row in rows[::2]] == list(funnel.sources) and last[0] == "all"
    for (name, *printed, percent), why in zip([*rows[::2], last], [*rows[1::2], None], strict=True):
        counts = funnel.all if why is None else funnel.sources[name]
        rows_in, rejected, dropped, kept = map(number, printed)
        assert rows_in == rejected + dropped + kept
        assert (rows_in, kept, rejected) == (counts.rows_in, counts.kept, sum(counts.rejected.values()))
        assert percent == f"{100 * kept / rows_in:.1f}"
        if why is not None:
            reasons = counts.rejected | counts.dropped
            assert why == [" ".join(f"{reason} {n:,}" for reason, n in reasons.items())]


@pytest.mark.parametrize("few", [True, False])
@pytest.mark.parametrize("text", HOSTILE)
def test_names_on_the_page_are_text_and_nothing_else(text: str, few: bool) -> None:
    sources = {name: Counts(3, 1, {text: 1}, {text: 1}) for name in [text, *([] if few else "abcdef")]}
    rated = {"source": text, "of": "rows", "name": text, "rated": 4, "below": [0, 1, 1, 2, 3]}
    content = report.content(Funnel(sources, {text: 1}, 1, text), [], rated=[rated])
    content["rows"].append({"what": text, "numbers": [1] * (len(sources) + 1), "share": 0.5})
    content["reasons"] = {text: text}
    content["steps"] = [{"folder": text, "identity": text, "rows_in": 1, "kept": 1}]
    page = Page(report.page(content))
    page.check_inert()
    plain = " ".join(text.split())
    assert page.table("funnel")[-1][0] == plain
    assert page.table("funnel" if few else "sources")[0 if few else 1][1 if few else 0] == plain
    assert page.table("reasons") == [[plain, plain]]
    assert page.table("steps")[-1][0] == plain
    assert page.table("totals")[0][0] == plain
    costs = ["–", "1 25.0 %", "1 25.0 %", "2 50.0 %", "3 75.0 %"]
    assert page.table("ratings")[1:] == [[plain, plain, "4 rows", *costs]]
    assert f"Shards: {text}" in page.text


def test_a_source_called_all_is_a_source() -> None:
    funnel = Funnel(ledgers([*"abcdef", "all"]), TOTALS, 1, "out")
    rows = Page(report.page(report.content(funnel, []))).table("sources")
    assert number(rows[-3][1]) == funnel.sources["all"].rows_in != funnel.all.rows_in == number(rows[-1][1])
