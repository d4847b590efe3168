"""What an evaluation shows: files that agree, a page that nothing on it can take over, two runs side by side."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from made_benchmarks import Scripted, coloured, row, write_benchmark
from tiny_shards import COLOURS, png

from schemas.strict import RecipeError
from train.__main__ import main
from train.commands import evaluate as command
from train.evaluate import benchmark, compare, page, results, runner, table
from train.inference.conversation import Answer

MODEL = {"name": "tiny", "content": "1" * 8}
HOSTILE = (
    "<script>alert(1)</script>",
    "</dd></dl></article><img src=x onerror=alert(1)>",
    '"><a href="javascript:alert(1)">x</a>',
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt; & 猫",
    "--></style></script><style>@import 'http://example.org'</style>",
    "| a | [x](javascript:1) `b` \x1b[31mred\x07",
    '<meta http-equiv="refresh" content="0;url=http://example.org">',
)


class Page(HTMLParser):
    """What a browser finds."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.cards, self.text = [], [], [], ""
        self.raw = {"script": "", "style": ""}
        self._in = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *each) for each in attrs]
        self._in = tag
        if tag == "article":
            self.cards.append(dict(attrs))

    def handle_endtag(self, tag):
        self._in = ""

    def handle_data(self, data):
        self.text += data
        if self._in in self.raw:
            self.raw[self._in] += data


def made(folder, rows, said, name="one", metric="exact_match", out=None, **scoring):
    one = benchmark.find([write_benchmark(folder / "data", name, rows, metric, **scoring)])[0]
    return runner.evaluate(lambda: Scripted(said), MODEL, one, out or folder / "out")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """An evaluation of a benchmark with hostile text in every field that is text."""
    folder = tmp_path_factory.mktemp("hostile")
    rows = []
    for number, text in enumerate(HOSTILE):
        pictures = [(text, png("red", (16, 16))), (text, text.encode())]
        rows.append(row(text, [text], [text, "no"], text, pictures) | {"sample_id": f"{text}#{number}"})
    said = {0: Answer("", "error", HOSTILE[0]), 1: Answer(HOSTILE[1], "length")}
    result = made(
        folder,
        rows,
        lambda asked, _: said.get(next(n for n, text in enumerate(HOSTILE) if text in asked), HOSTILE[2]),
        metric="multiple_choice",
        prompt="{question}\n{choices}",
    )
    paths = results.write(folder / "out", MODEL | {"name": HOSTILE[0]}, [result])
    return result, {path.name: path.read_text(encoding="utf-8") for path in paths}


def test_nothing_on_the_page_runs_or_loads(hostile):
    found = Page(hostile[1]["results.html"])
    assert found.tags.count("script") == 1 and found.tags.count("style") == 1 and found.tags.count("meta") == 3
    assert not set(found.tags) & {"a", "link", "iframe", "object", "embed", "form", "base", "svg", "input"}
    assert not [each for each in found.attributes if each[1].startswith("on") or each[1] in ("href", "style")]
    sources = [value for _, name, value in found.attributes if name in ("src", "srcset")]
    assert len(sources) == len(HOSTILE) and all(value.startswith("data:image/webp;base64,") for value in sources)
    assert not re.search(r"url\(|@import|//", found.raw["style"])
    (policy,) = [value for _, name, value in found.attributes if name == "content" and "default-src" in value]
    assert policy.startswith("default-src 'none'; img-src data:; ")
    digest = base64.b64encode(hashlib.sha256(found.raw["script"].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert not any(text in found.raw["script"] for text in HOSTILE)


def test_hostile_text_is_shown_as_it_is(hostile):
    found, texts = Page(hostile[1]["results.html"]), hostile[1]
    for text in HOSTILE:
        assert found.text.count(text) >= 4  # asked, as an option, reference, category, name of a picture
    assert len(found.cards) == len(HOSTILE)
    assert texts["results.html"].count("image_unreadable") == len(HOSTILE)


def test_markdown_has_a_cell_for_a_cell(hostile):
    lines = hostile[1]["results.md"].splitlines()
    assert lines[0] == "# Scores of \\<script\\>alert(1)\\</script\\>"
    for line in lines[1:]:
        assert line.startswith(("|", "## ")) or line == ""
        assert "\x1b" not in line and len(re.findall(r"(?<!\\)\|", line)) in (0, 5, 8)
        assert not re.search(r"(?<!\\)[<`\[]", line)


def test_a_terminal_is_told_no_control_characters(hostile, capsys):
    table.show([hostile[0]])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed and "\x07" not in printed and "�[31mred�" in printed


def test_the_page_shows_misses_first_and_is_bounded(tmp_path):
    rows = [coloured(f"{number}: which?", colour) for number, colour in enumerate([*COLOURS] * 100)]
    result = made(tmp_path, rows, lambda *_: "red")
    chosen = page.shown(result.questions, 30)
    assert (len(chosen), sum(each.score == 0 for each in chosen)) == (30, 20)
    assert [each.score for each in chosen] == [0] * 20 + [1] * 10
    assert [each.first["sample_id"] for each in chosen] != [each.first["sample_id"] for each in result.questions[:30]]
    few = page.shown([each for each in result.questions if each.score] + result.questions[1:2], 30)
    assert (len(few), sum(each.score == 0 for each in few)) == (30, 1)
    assert len(page.shown([each for each in result.questions if not each.score], 30)) == 30
    text = page.rendered(results.content(MODEL, [result], tmp_path), [result] * 3)
    assert len(Page(text).cards) == 600
    assert text == page.rendered(results.content(MODEL, [result], tmp_path), [result] * 3)


def test_pictures_have_a_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "_PICTURE_BYTES", 1000)
    result = made(tmp_path, [coloured(f"{number}", "red") for number in range(30)], lambda *_: "red")
    text = page.rendered(results.content(MODEL, [result], tmp_path), [result])
    assert 0 < text.count("data:image/webp") < 30 and "the page has no more room" in text
    assert sum(len(uri) for uri in re.findall(r'src="(data:[^"]+)"', text)) <= 1000


def test_json_and_table_are_what_the_summaries_say(tmp_path):
    first = made(tmp_path / "a", [coloured("which?", each) for each in COLOURS], lambda *_: "red")
    second = made(tmp_path / "b", [row("say", ["yes"])], lambda *_: "yes", name="two")
    results.write(tmp_path, MODEL, [first, second])
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["benchmarks"] == [first.summary, second.summary] and found["mean"] == pytest.approx(2 / 3)
    assert "| one | exact\\_match | 3 | 33.3% |" in (tmp_path / "results.md").read_text()
    assert "| mean | | | 66.7% |" in (tmp_path / "results.md").read_text()
    assert not (tmp_path / "judge-requests.jsonl").exists()


def test_what_the_folder_has_of_the_model_from_before_stays_in_the_results(tmp_path, model, answering):
    for name in ("b", "a"):
        write_benchmark(tmp_path / "data", name, [coloured("which?", each) for each in COLOURS])
    words = ["evaluate", str(model), "--benchmarks", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    (tmp_path / "out" / "a_run").mkdir(parents=True)
    (tmp_path / "out" / "a_run" / "summary.json").write_text("{}")
    assert main(words) == 0
    before = (tmp_path / "out" / "results.json").read_bytes()
    assert main([*words, "--only", "b"]) == 0
    assert (tmp_path / "out" / "results.json").read_bytes() == before
    assert [each["benchmark"] for each in compare.compared(tmp_path / "out", tmp_path / "out")["benchmarks"]] == [
        "a",
        "b",
    ]


def test_results_are_of_one_model_alone(tmp_path):
    first = made(tmp_path / "a", [row("say", ["yes"])], lambda *_: "no", name="one", out=tmp_path)
    summary = tmp_path / "one" / "summary.json"
    summary.write_text(json.dumps({**first.summary, "model": {"name": "other", "content": "2"}}))
    second = made(tmp_path / "b", [row("say", ["yes"])], lambda *_: "yes", name="two", out=tmp_path)
    results.write(tmp_path, MODEL, [second])
    assert [each["benchmark"] for each in json.loads((tmp_path / "results.json").read_text())["benchmarks"]] == ["two"]
    assert "| mean |" not in (tmp_path / "results.md").read_text()  # of one


def test_the_terminal_shows_misses_first(tmp_path, capsys):
    rows = [coloured(f"{number}: which?", "red") for number in range(40)]
    table.show([made(tmp_path, rows, lambda text, _: "blue" if text.startswith("39:") else "red")])
    printed = capsys.readouterr().out
    assert printed.index("wrong") < printed.index("right") and printed.count("right") == 11


ROWS = [coloured(f"{number}: which?", "red") for number in range(12)]


def two_runs(tmp_path, rows=ROWS, metric="exact_match", **scoring):
    """The second has questions 0 to 5 right, the first 4 and 5."""
    made(tmp_path / "x", ROWS, lambda text, _: "red" if text[:2] in ("4:", "5:") else "blue", out=tmp_path / "a")
    said = {str(number): "red" for number in range(6)}
    made(
        tmp_path / "y",
        rows,
        lambda text, _: said.get(text.split(":")[0], "blue"),
        out=tmp_path / "b",
        metric=metric,
        **scoring,
    )
    return tmp_path / "a", tmp_path / "b"


def test_two_runs_are_compared_question_by_question(tmp_path, capsys):
    a, b = two_runs(tmp_path)
    assert main(["compare", str(a), str(b), "--out", str(tmp_path / "c.json")]) == 0
    (found,) = json.loads((tmp_path / "c.json").read_text())["benchmarks"]
    assert (found["first"], found["second"], found["difference"]) == (2 / 12, 0.5, pytest.approx(4 / 12))
    assert (found["better"], found["worse"], found["p"], found["test"]) == (4, 0, 2 / 16, "mcnemar")
    assert [each["sample_id"] for each in found["changed"]] == [f"one/q#{number}" for number in range(4)]
    assert found["changed"][0]["first"] == {"answer": "blue", "score": 0.0}
    printed = capsys.readouterr().out
    assert "0: which? [red] blue (0) -> red (1)" in printed and "+33.3%" in printed
    (same,) = compare.compared(a, a)["benchmarks"]
    assert (same["difference"], same["p"], same["changed"]) == (0, 1, [])


def test_where_nothing_changed_no_interval_is_told(tmp_path, capsys):
    a, _ = two_runs(tmp_path)
    assert main(["compare", str(a), str(a)]) == 0
    printed = capsys.readouterr().out
    assert "–" in printed and "+0.0% to" not in printed


def test_runs_on_other_questions_or_of_another_scoring_are_refused(tmp_path, capsys):
    a, b = two_runs(tmp_path / "1", ROWS[:-1])
    assert main(["compare", str(a), str(b)]) == 2
    assert capsys.readouterr().err == "error: one: the two runs have another data; evaluate both in the same way\n"
    with pytest.raises(RecipeError, match="another metric"):
        compare.compared(*two_runs(tmp_path / "2", metric="contains"))
    with pytest.raises(RecipeError, match="no evaluation in it"):
        compare.compared(a, tmp_path)
    one = benchmark.find([tmp_path / "1/y/data"])[0]
    runner.evaluate(lambda: Scripted(lambda *_: "red"), MODEL, one, tmp_path / "few", runner.How(limit=3))
    with pytest.raises(RecipeError, match="8 questions are in one run alone"):
        compare.compared(tmp_path / "few", b)
    with pytest.raises(RecipeError, match="no such folder"):
        compare.compared(a, tmp_path / "nowhere")


@pytest.fixture
def model(tmp_path):
    """A folder that could be a model."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    return tmp_path / "model"


@pytest.fixture
def answering(monkeypatch):
    """`evaluate` without a model: who answers is scripted; how often it was opened."""
    opened = []
    monkeypatch.setattr(command, "_opened", lambda place, *_: opened.append(place) or Scripted(lambda *_: "red"))
    return opened


def test_the_command_scores_all_benchmarks_of_a_folder(tmp_path, model, answering, capsys):
    for name in ("b", "a"):
        write_benchmark(tmp_path / "data", name, [coloured("which [one]?", each) for each in COLOURS])
    words = ["evaluate", str(model), "--benchmarks", str(tmp_path / "data")]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "which [one]?" in printed and "red.png" in printed and "colour 33.3%" in printed
    assert "exact_match 33.3% of 3 questions (6.1% to 79.2%, wilson)" in printed
    found = json.loads((tmp_path / "evaluation-model" / "results.json").read_text())
    assert [each["benchmark"] for each in found["benchmarks"]] == ["a", "b"] and found["mean"] == pytest.approx(1 / 3)
    assert main([*words, "--only", "a"]) == 0 and answering == [str(model)]
    (model / "config.json").write_text("{ }")
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "answers of another model" in error and error.count("\n") == 1


def test_the_command_takes_a_judges_verdicts(tmp_path, model, answering, capsys):
    place = write_benchmark(tmp_path / "data", "talk", ROWS[:3], "judge")
    words = ["evaluate", str(model), "--benchmarks", str(place), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert "3 wait for a judge's verdict" in capsys.readouterr().out
    asked = [json.loads(line) for line in (tmp_path / "out" / "judge-requests.jsonl").read_text().splitlines()]
    path = tmp_path / "verdicts.jsonl"
    path.write_text("".join(json.dumps({"id": each["custom_id"], "verdict": "correct"}) + "\n" for each in asked))
    assert main([*words, "--judge-verdicts", str(path)]) == 0
    assert json.loads((tmp_path / "out" / "results.json").read_text())["mean"] == 1
    assert not (tmp_path / "out" / "judge-requests.jsonl").exists() and len(answering) == 1


def test_a_wrong_command_line_is_one_line(tmp_path, model, answering, capsys):
    assert main(["evaluate", str(model), "--benchmarks", str(tmp_path / "no")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/no: no such folder; ")
    assert main(["evaluate", str(model), "--benchmarks", str(tmp_path)]) == 2
    assert "no benchmark in it; run the pipeline" in capsys.readouterr().err
