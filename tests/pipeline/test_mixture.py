"""The mixture in a whole run: met, explained, proven, resumed; only what all other filters keep is chosen from."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.publish.publish import publish
from pipeline.storage import layout
from schemas.manifest import read
from schemas.strict import RecipeError
from tests.pipeline import tiny_corpus
from tests.pipeline.conftest import do, manifests, opened, run, write_yaml
from tests.pipeline.executors import DiesAfter, Killed, Shuffled

Edit = Callable[[dict[str, Any]], object]
PICTURES = 12


def says(language: str, number: int) -> dict[str, Any]:
    """A row of text, of a length of its own."""
    answer = "yes " * (number % 23)
    turns = [("user", f"Is {number} a number in {language}?"), ("assistant", f"It is {answer}one.")]
    return {"messages": [{"role": role, "content": text} for role, text in turns], "language": language}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 English, 60 Japanese and 20 Chinese rows of two subsets, some twice, some empty; a few pictures."""
    folder = tmp_path_factory.mktemp("mixture") / "raw"
    (folder / "signs").mkdir(parents=True)
    for subset, languages in (("one", ["en"] * 100 + ["ja"] * 30), ("two", ["en"] * 20 + ["ja"] * 30 + ["zh"] * 20)):
        (folder / "talks" / subset).mkdir(parents=True)
        rows = [says(language, n) for n, language in enumerate(languages, 0 if subset == "one" else 500)]
        rows += [rows[0], rows[1], {**says("en", 999), "messages": [*says("en", 999)["messages"][:1]]}]
        (folder / "talks" / subset / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    signs = [{"image": f"{n}.png", "caption": f"A sign with the number {n} on it."} for n in range(PICTURES)]
    for n in range(PICTURES):
        (folder / "signs" / f"{n}.png").write_bytes(tiny_corpus.picture(n))
    (folder / "signs" / "signs.jsonl").write_text("\n".join(map(json.dumps, signs)) + "\n")
    tiny_corpus.tokenizer(folder / "tokenizer")
    return folder


Make = Callable[..., Path]


@pytest.fixture
def make(raw: Path, tmp_path: Path) -> Make:
    """A recipe on it with a mixture, changed by `edit(data)`."""

    def made(mixture: dict[str, Any] | None, edit: Edit = lambda data: None, name: str = "recipe.yaml") -> Path:
        mapping = tiny_corpus.recipe(raw, tmp_path / "out")
        data = mapping["data"]
        for key in ("benchmarks", "decontaminate", "language"):
            del data[key]
        data["sources"]["talks"] |= {"files": ["*/*.jsonl"], "columns": {"language": "language"}}
        data["ingest"]["rows_per_part"] = 40
        if mixture is not None:
            data["mixture"] = mixture
        edit(data)
        places = mapping["run"]["locations"]
        mapping["run"]["locations"] = {n: places[n] for n in (*data["sources"], "tokenizer")}
        return write_yaml(tmp_path / name, mapping)

    return made


def kept(context: Context, steps: list[Step]) -> list[dict[str, Any]]:
    """The rows of the index."""
    rows: list[dict[str, Any]] = pq.read_table(context.out / steps[-1].folder / layout.INDEX).to_pylist()
    return rows


def the(steps: list[Step]) -> Step:
    return next(step for step in steps if step.stage.name == "mixture")


def test_shares_are_met_of_what_the_other_filters_keep_and_everything_downstream_follows(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make({"shares": {"language": {"en": 50, "ja": 40, "zh": 10}}})
    assert main(["run", str(path)]) == 0
    assert "language en 50.00 %, ja 40.00 %, zh 10.00 %" in capsys.readouterr().out
    context, steps = opened(path)
    rows = kept(context, steps)
    assert Counter(row["language"] for row in rows) == {"en": 75, "ja": 60, "zh": 15}
    mine = read(context.out / the(steps).folder)
    assert mine.counts.dropped == {"over_share": 120 - 75 + 20 - 15 + PICTURES}
    assert mine.facts["kept"] == {"language": {"en": 75, "ja": 60, "zh": 15}}
    assert read(context.out / steps[-1].folder).counts.dropped == {
        "dedupe.duplicate": 4,
        "mixture.over_share": mine.counts.dropped["over_share"],
    }
    assert main(["verify", str(context.out)]) == 0
    assert main(["census", str(path), "--json", str(tmp_path / "c.json"), "--set", "run.workers=1"]) == 0
    assert json.loads((tmp_path / "c.json").read_text())["recipes"][0]["kept"]["samples"] == len(rows)
    publish(steps, context, path, tmp_path / "published", 1 << 20)
    held = [row for p in (tmp_path / "published" / "data").glob("*.parquet") for row in pq.read_table(p).to_pylist()]
    assert {row["sample_id"] for row in held} == {row["sample_id"] for row in rows}
    capsys.readouterr()
    assert main(["show", str(path), "signs/signs.jsonl#0"]) == 0
    said = capsys.readouterr().out
    assert "drop: over_share" in said and f"group language others, of {PICTURES}, stay 0" in " ".join(said.split())


def test_tokens_are_those_of_the_shards(make: Make) -> None:
    shares = {"language": {"en": 60, "ja": 40}}
    context, steps = run(make({"by": "tokens", "shares": shares, "at_most": 5_000}))
    rows, total = kept(context, steps), 0
    by_language: Counter[str] = Counter()
    for row in rows:
        by_language[row["language"]] += row["num_tokens"]
        total += row["num_tokens"]
    longest = max(row["num_tokens"] for row in rows)
    assert 5_000 - 2 * longest < total <= 5_000
    assert abs(by_language["ja"] - 0.4 * total) < longest
    assert read(context.out / the(steps).folder).facts["kept"]["language"] == dict(sorted(by_language.items()))


def test_parts_and_interruptions_change_nothing_and_names_don_t_decide(make: Make, tmp_path: Path) -> None:
    mixture = {"caps": {"subset": 30}, "at_most": 60}
    context, steps = run(make(mixture), executor=Shuffled())
    ids = {row["sample_id"] for row in kept(context, steps)}
    assert len(ids) == 60
    path = make(mixture, lambda data: data["ingest"].update(rows_per_part=17), "parts.yaml")
    other, finer = run(path, tmp_path / "finer")
    assert {row["sample_id"] for row in kept(other, finer)} == ids
    while True:
        try:
            again, same = run(make(mixture), tmp_path / "killed", executor=DiesAfter(1))
            break
        except Killed:
            continue
    assert manifests(again.out, same) == manifests(context.out, steps)


def test_another_seed_chooses_others_and_a_higher_number_only_adds(make: Make, tmp_path: Path) -> None:
    def ids(name: str, **mixture: Any) -> set[str]:
        return {row["sample_id"] for row in kept(*run(make(mixture, name=f"{name}.yaml"), tmp_path / "out"))}

    few, more, others = ids("few", at_most=40), ids("more", at_most=90), ids("others", at_most=40, seed=1)
    assert few < more and len(few) == len(others) == 40 and len(few & others) < 30


def test_only_what_a_mixture_is_made_of_makes_it_again(make: Make) -> None:
    def moved(mixture: dict[str, Any], edit: Edit) -> set[str]:
        paths = make(json.loads(json.dumps(mixture))), make(mixture, edit, "edited.yaml")
        for path in paths:
            do(path, None, ["hash"])
        (_, old), (_, new) = map(opened, paths)
        return {b.stage.name for a, b in zip(old, new, strict=True) if a.identity != b.identity}

    def longer(data: dict[str, Any]) -> None:
        data["pretokenise"]["max_tokens"] = 400

    def smaller(data: dict[str, Any]) -> None:
        data["pretokenise"]["shard_bytes"] = 2

    assert moved({"at_most": 9}, lambda data: data["mixture"].update(at_most=10)) == {"mixture", "pretokenise"}
    assert moved({"at_most": 9}, longer) == {"pretokenise"}
    assert moved({"at_most": 9, "by": "tokens"}, longer) == {"mixture", "pretokenise"}
    assert moved({"at_most": 9, "by": "tokens"}, smaller) == {"pretokenise"}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no such source": (
        {"limits": {"source": {"talk": 5}}},
        "data: mixture.limits.source.talk: no source is called 'talk'; did you mean 'talks'?",
    ),
    "no such source of a subset": ({"caps": {"subset": {"sign": 5}}}, "caps.subset.sign: no source is called 'sign'"),
    "no such subset": (
        {"limits": {"subset": {"talks/on": 5}}},
        "data.mixture.limits.subset.talks/on: no sample is of such a subset; did you mean 'talks/one'?",
    ),
    "no such language": (
        {"shares": {"language": {"jp": 5}}},
        "data.mixture.shares.language.jp: no sample is of such a language; did you mean 'ja'?",
    ),
    "too much": ({"shares": {"language": {"ja": 60, "en": 50}}}, "shares: language: adds up to 110 %, wanted 100 %"),
    "too little": (
        {"shares": {"source": {"talks": 60, "signs": 20}}},
        "adds up to 80 %, and no sample is of another source for the other 20 %; wanted 100 %, e.g. talks: 75, signs",
    ),
    "nothing": ({}, "data.mixture: asks for nothing"),
    "not together": (
        {"shares": {"kind": {"image": 50}, "language": {"en": 50, "ja": 50}}},
        "data.mixture.shares: those by language and by kind can't be met together",
    ),
    "no such kind": ({"shares": {"kind": {"pictures": 5}}}, "kind: got pictures, wanted image or text"),
    "none": ({"at_most": 0}, "at_most: got 0, wanted at least 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_can_t_be_met_ends_in_one_line(make: Make, name: str) -> None:
    mixture, wanted = WRONG[name]
    with pytest.raises(RecipeError, match=re.escape(wanted)) as error:
        run(make(mixture))
    assert "\n" not in str(error.value)


def test_a_share_of_what_no_filter_keeps_and_languages_nobody_knows_are_refused(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    def strict(data: dict[str, Any]) -> None:
        data["quality"] = {"min_image_side": 4_000}

    assert main(["run", str(make({"shares": {"kind": {"image": 5}}}, strict))]) == 2
    assert "shares.kind.image: got 5 %, and no sample that all filters keep is of it" in capsys.readouterr().err

    def silent(data: dict[str, Any]) -> None:
        del data["sources"]["talks"]

    with pytest.raises(RecipeError, match=r"data\.mixture\.language: of no sample is the language known"):
        run(make({"caps": {"language": 5}}, silent, "silent.yaml"))
