"""`census` beside the counting: budgets, estimates from a table, quantiles, bins and drawings."""

from __future__ import annotations

import itertools
import json
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli import main
from pipeline.commands.census.budget import Plan, budget
from pipeline.commands.census.found import Found
from pipeline.commands.census.lengths import bins, quantiles
from pipeline.commands.census.plots import plots
from pipeline.commands.census.tables import short, told
from stages.census import Group, Place, Tally
from tests.pipeline import tiny_corpus
from tests.pipeline.conftest import write_yaml

HOSTILE = '<script>alert(1)</script> & "q" \x1b[31m \uffff \u202e'


def found(rows: int, tokens: int) -> Found:
    kept = Counter(samples=rows, rows=rows, num_tokens=tokens, num_text_tokens=tokens)
    model = {"max_tokens": 4096, "tiles": {"scheme": "internvl"}}
    return Found("a", "a.yaml", model, "", "", Tally({Place("s", None): Group(kept)}))


def test_a_published_run() -> None:
    """LLM-jp-4-VL: 33.4 M samples, 90,000 steps of 2.0 M tokens, about 3 epochs and 180 B tokens."""
    plan = Plan(batch_tokens=2_000_000, steps=90_000, tokens_per_second=250_000)
    spent = budget(plan, 33_400_000, 60_000_000_000)
    assert spent is not None
    assert (spent.epochs, spent.steps, spent.tokens_seen, spent.hours) == (3.0, 90_000, 180_000_000_000, 200.0)
    assert told(plan, found(33_400_000, 60_000_000_000)) == (
        "90,000 steps of 2 M tokens are 3.00 epochs of 33.4 M rows, 60 B tokens: "
        "180 B tokens in all; 200.0 hours at 250,000 tokens/s"
    )


@pytest.mark.parametrize(
    ("plan", "epochs", "steps", "seen", "hours"),
    [
        (Plan(batch_tokens=300, epochs=2), 2.0, 7, 2000, None),  # 2,000 / 300 = 6.67
        (Plan(batch_tokens=500), 1.0, 2, 1000, None),
        (Plan(batch_samples=4, epochs=1.5), 1.5, 4, 1500, None),  # 15 / 4 = 3.75
        (Plan(batch_samples=4, steps=5), 2.0, 5, 2000, None),
        (Plan(tokens_per_second=0.5, epochs=1.8), 1.8, None, 1800, 1.0),
        (Plan(batch_tokens=100, epochs=1.1), 1.1, 11, 1100, None),  # 1.1 x 1000 / 100 is above 11 in floats
    ],
)
def test_budgets_by_hand(plan: Plan, epochs: float, steps: int | None, seen: int, hours: float | None) -> None:
    spent = budget(plan, 10, 1000)
    assert spent is not None
    assert (spent.epochs, spent.steps, spent.tokens_seen, spent.hours) == (epochs, steps, seen, hours)
    assert budget(plan, 0, 0) is None


def test_numbers_are_short_in_four_digits() -> None:
    assert [short(n) for n in (999_999, 1_000_000, 12_345_678, 999_999_999, 1.8e11)] == [
        *("999,999", "1 M", "12.35 M", "1 B", "180 B")
    ]


@given(st.dictionaries(st.integers(1, 200_000), st.integers(1, 50), min_size=1, max_size=40))
def test_bins_hold_every_row_and_quantiles_are_those_of_the_sorted_rows(lengths: dict[int, int]) -> None:
    rows = sorted(length for length, number in lengths.items() for _ in range(number))
    found = bins(lengths)
    assert sum(number for *_, number in found) == len(rows)
    for start, end, number in found:
        assert number == sum(start <= length < end for length in rows)
    assert all(left[1] == right[0] for left, right in itertools.pairwise(found))
    assert found[0][0] <= rows[0] < found[0][1] and found[-1][0] <= rows[-1] < found[-1][1]
    wanted = quantiles(lengths)
    assert (wanted["min"], wanted["max"]) == (rows[0], rows[-1])
    assert wanted["p90"] == next(n for n in rows if sum(m <= n for m in rows) >= 0.9 * len(rows))


def hostile() -> Found:
    names = [Place(HOSTILE, HOSTILE), Place("plain", None), *(Place(f"s{n}", f"l{n}") for n in range(40))]
    groups = {
        place: Group(Counter(samples=1, rows=1, num_tokens=30 + n, num_text_tokens=10, num_image_tokens=20 + n))
        for n, place in enumerate(names)
    }
    model = {"max_tokens": 64, "tiles": {"scheme": "internvl"}}
    return Found(HOSTILE, "a.yaml", model, "", "", Tally(groups, Counter({30: 40, 55: 2})))


def test_drawings_are_sound_xml_whatever_names_say() -> None:
    drawn = plots([hostile(), hostile()])
    assert set(drawn) == {"lengths.svg", "sources.svg", "languages.svg"} and drawn == plots([hostile(), hostile()])
    for text in drawn.values():
        root = ElementTree.fromstring(text)
        kinds = {element.tag.split("}")[1] for element in root.iter()}
        assert kinds == {"svg", "style", "title", "text", "rect", "line"}
        said = [element.text or "" for element in root.iter() if element.tag.endswith("text")]
        assert any(words.startswith("<script>") for words in said)
        width = float(root.attrib["width"])
        for box in root.iter("{http://www.w3.org/2000/svg}rect"):
            assert float(box.get("x", 0)) >= 0 and float(box.get("x", 0)) + float(box.attrib["width"]) <= width
    bars = ElementTree.fromstring(drawn["sources.svg"])
    assert sum((e.text or "").endswith(" more") for e in bars.iter() if e.tag.endswith("}text")) == 2


def test_bars_are_as_long_as_their_tokens() -> None:
    kept = [
        Counter(num_tokens=300, num_text_tokens=100, num_image_tokens=200),
        Counter(num_tokens=50, num_text_tokens=50),
    ]
    groups = {Place(name, None): Group(amount) for name, amount in zip("ab", kept, strict=True)}
    one = Found("r", "r.yaml", {"max_tokens": 64}, "", "", Tally(groups))
    drawn = plots([one])
    assert set(drawn) == {"sources.svg"}
    root = ElementTree.fromstring(drawn["sources.svg"])
    titled = {
        box[0].text: float(box.attrib["width"]) for box in root.iter("{http://www.w3.org/2000/svg}rect") if len(box)
    }
    assert list(titled) == ["a: 100 text tokens", "a: 200 image tokens", "b: 50 text tokens"]
    text, image, other = titled.values()
    assert image == pytest.approx(2 * text, abs=0.02) and text == pytest.approx(2 * other, abs=0.02)


def estimated(tiny: Path, tmp_path: Path, table: str, *options: str, **edit: Any) -> dict[str, Any]:
    mapping = tiny_corpus.recipe(tiny, tmp_path / "out")
    mapping["data"]["pretokenise"] |= edit
    mapping["run"]["locations"]["talks"] = "/nothing/is/here"
    path = write_yaml(tmp_path / "recipe.yaml", mapping)
    (tmp_path / "t.csv").write_text(table, encoding="utf-8")
    target = ["--json", str(tmp_path / "e.json")]
    assert main(["census", str(path), "--from", str(tmp_path / "t.csv"), *options, *target]) == 0
    found: dict[str, Any] = json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))
    return found


TABLE = "category,subset,images,samples,turns,answer_tokens\nc,pictures,10,10,20,1000\nc,texts,0,5,5,300\n"


def test_an_estimate_is_the_arithmetic_that_it_says(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """ChatML with a token for every byte: `<|im_start|>user\\n...<|im_end|>\\n` are 1 + 5 + 1 + 1 tokens around a
    question, `<|im_start|>assistant\\n...<|im_end|>\\n` 1 + 10 + 1 + 1 around an answer, one of which bears loss."""
    sizes = [{"width": 32, "height": 16, "share": 3}, {"width": 16, "height": 16, "share": 1}]
    assume = write_yaml(
        tmp_path / "a.yaml", {"question_tokens": 7.5, "tokens_per_answer_token": 1.2, "image_sizes": sizes}
    )
    found = estimated(tiny, tmp_path, TABLE, "--assume", str(assume))
    assert found["exact"] is False
    assert found["assumptions"]["question_tokens"] == 7.5 and found["assumptions"]["image_sizes"] == sizes
    pictures, texts = found["recipes"][0]["groups"]
    # a tile of 16 pixels is 4 tokens; 32 x 16 is 2 tiles and a thumbnail, 12 + 2 framing; 16 x 16 is 4 + 2
    image = 10 * (3 * 14 + 1 * 6) / 4
    assert pictures["kept"]["num_image_tokens"] == image == 120
    assert pictures["kept"]["num_tiles"] == 10 * (3 * 3 + 1) / 4
    assert pictures["kept"]["num_text_tokens"] == 1200 + 20 * 7.5 + 20 * (8 + 13)
    assert pictures["kept"]["num_target_tokens"] == 1200 + 20
    assert texts["kept"]["num_text_tokens"] == 360 + round(5 * 7.5) + 5 * 21
    assert texts["kept"]["num_image_tokens"] == texts["kept"]["num_tiles"] == 0
    out = capsys.readouterr().out
    assert "an estimate, not a count; assumed: " in out and '"question_tokens":7.5' in out and "ESTIMATE" in out


def test_a_layout_without_questions_has_none_in_the_estimate(tiny: Path, tmp_path: Path) -> None:
    kept = estimated(tiny, tmp_path, TABLE, chat={"layout": "plain"})["recipes"][0]["groups"][1]["kept"]
    assert kept["num_text_tokens"] == 300 + 5 == kept["num_target_tokens"]


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("subset,images\na,1\n", "no column 'samples'"),
        (TABLE.replace("1000", "1e3"), "line 2: answer_tokens: got '1e3'"),
        (TABLE.replace("10,10", "-1,10"), "line 2: images: got '-1'"),
        (TABLE + "c,texts,0,5,5,300\n", "the subset texts has two rows"),
        (TABLE + "c,cut\n", "line 4: images: got ''"),
    ],
)
def test_a_wrong_table_is_one_line(
    table: str, problem: str, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AssertionError):
        estimated(tiny, tmp_path, table)
    error = capsys.readouterr().err
    assert problem in error and error.count("\n") == 1
