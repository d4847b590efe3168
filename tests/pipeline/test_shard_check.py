"""Each thing that `verify` proves of shards, alone: damage whose hashes are right, so that nothing else can find it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.commands import verify
from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.steps.shard_check import check_shards
from schemas.manifest import ManifestError, describe, read
from schemas.shard import COUNTS, INDEX, SHARD
from tests.pipeline.conftest import run
from train.data.shards import Shards

Row = dict[str, Any]
Damage = Callable[[Path], object]

TEXT, SIGN = ("shard-00000.arrow", 1), ("shard-00004.arrow", 2)  # of a sample without images, and of one with


@pytest.fixture
def folder(tiny_run: tuple[Path, Context, list[Step]], tmp_path: Path) -> Path:
    """A copy of the shard folder that a test may damage."""
    _, context, steps = tiny_run
    shutil.copytree(context.out / steps[-1].folder, tmp_path / "shards")
    return tmp_path / "shards"


def hash_again(folder: Path) -> None:
    """The sizes and hashes of the manifest and of the records are those of the files."""

    def described(entries: list[Row]) -> list[Row]:
        return [vars(describe(folder, entry["name"], rows(folder / entry["name"], entry["rows"]))) for entry in entries]

    state(files=described(manifest(folder)["files"]))(folder)
    for path in folder.glob("part-*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(record | {"files": described(record["files"])}), encoding="utf-8")
    (folder / "manifest.json").write_text(read(folder).to_json(), encoding="utf-8")


def rows(path: Path, said: int | None) -> int | None:
    return pq.read_metadata(path).num_rows if path.suffix == ".parquet" else said


def manifest(folder: Path) -> Row:
    loaded: Row = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return loaded


def state(**keys: Any) -> Damage:
    """The manifest says something else."""

    def damage(folder: Path) -> None:
        (folder / "manifest.json").write_text(json.dumps(manifest(folder) | keys), encoding="utf-8")

    return damage


def keep_more(folder: Path) -> None:
    """One more sample is kept, and went in, than there is."""
    record = folder / "part-00000.json"
    for path in (folder / "manifest.json", record):
        found = json.loads(path.read_text(encoding="utf-8"))
        for counts in (found["counts"], found["by_source"]["talks"]):
            counts["rows_in"] += 1
            counts["kept"] += 1
        path.write_text(json.dumps(found), encoding="utf-8")


def shard(edit: Callable[[Row], object], place: tuple[str, int], schema: pa.Schema = SHARD) -> Damage:
    """A sample of a shard is another."""

    def damage(folder: Path) -> None:
        name, row = place
        with pa.memory_map(str(folder / name)) as source:
            rows = pa.ipc.open_file(source).read_all().to_pylist()
        edit(rows[row])
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            writer.write_table(pa.Table.from_pylist(rows, schema))

    return damage


def text(edit: Callable[[Row], object]) -> Damage:
    return shard(edit, TEXT)


def sign(edit: Callable[[Row], object]) -> Damage:
    return shard(edit, SIGN)


def index(edit: Callable[[list[Row]], object], schema: pa.Schema = INDEX) -> Damage:
    """The rows of the index are others."""

    def damage(folder: Path) -> None:
        table = pq.read_table(folder / "index.parquet")
        rows = table.to_pylist()
        edit(rows)
        said = schema.with_metadata(table.schema.metadata)
        pq.write_table(pa.Table.from_pylist(rows, said), folder / "index.parquet")

    return damage


def counted_again(edit: Callable[[Row], object]) -> Callable[[Row], object]:
    """An edit after which the sample's own counts are what its rows give."""

    def edited(row: Row) -> None:
        edit(row)
        row["num_image_tokens"] = sum(tile["num_tokens"] for tile in row["tiles"])
        row["num_text_tokens"] = len(row["input_ids"]) - row["num_image_tokens"]
        row["num_target_tokens"] = sum(end - start for start, end in row["target_spans"])

    return edited


def spans(change: Callable[[int, int, int], list[list[int]]]) -> Damage:
    """Other target spans with as many tokens, of a sample with one: (its start, its end, number of tokens)."""

    def edit(row: Row) -> None:
        start, end = row["target_spans"][0]
        row["target_spans"] = change(start, end, row["num_tokens"])

    return text(edit)


def tile(change: Callable[[Row], object]) -> Damage:
    return sign(counted_again(lambda row: change(row["tiles"][0])))


def ids(change: Callable[[list[int], Row], object]) -> Damage:
    return sign(lambda row: change(row["input_ids"], row["tiles"][0]))


def moved(row: Row, to: Row) -> None:
    """The counts of one index row are another's too, so that the totals stay."""
    to.update({name: to[name] + row[name] for name in COUNTS})


def put(numbers: list[Any], place: int, number: object) -> None:
    numbers[place] = number


def another(schema: pa.Schema, name: str) -> pa.Schema:
    return schema.set(schema.get_field_index(name), pa.field(name, pa.large_string()))


LABELS: dict[str, Callable[[Row], list[Row]]] = {
    "of no target": lambda row: [{"position": row["target_spans"][0][0] - 1, "id": 1}],
    "to no token": lambda row: [{"position": row["target_spans"][0][0], "id": 100_000}],
    "to a negative": lambda row: [{"position": row["target_spans"][0][0], "id": -1}],
    "twice": lambda row: [{"position": row["target_spans"][0][0], "id": 1}] * 2,
}

CASES: dict[str, tuple[Damage, str]] = {
    "schema of a shard": (
        shard(lambda row: None, TEXT, another(SHARD, "language")),
        r"shard-00000.arrow: its schema is not SHARD",
    ),
    "schema of the index": (index(len, another(INDEX, "language")), r"index.parquet: its columns are not"),
    **{
        name: (text(lambda row, name=name: row.update({name: row[name] + 1})), rf"row 1 \(talks/.*: {name} is \d+")  # type: ignore[misc]
        for name in COUNTS
    },
    "spans swapped": (spans(lambda a, b, _: [[a + 1, b], [a, a + 1]]), "are not ordered inside"),
    "spans overlap": (spans(lambda a, b, _: [[a, b - 1], [b - 2, b - 1]]), "are not ordered inside"),
    "span before the beginning": (spans(lambda a, b, _: [[-1, b - a - 1]]), "are not ordered inside"),
    "span beyond the end": (spans(lambda a, b, end: [[end - (b - a) + 1, end + 1]]), "are not ordered inside"),
    **{
        f"label changes: {name}": (
            text(lambda row, change=change: row.update(label_changes=change(row))),
            "label changes",
        )  # type: ignore[misc]
        for name, change in LABELS.items()
    },
    "an image too few": (sign(lambda row: row["images"].clear()), "1 tile plans for 0 images"),
    "another scheme": (tile(lambda plan: plan.update(scheme="grid")), "grid Grid.* for an image of 24 x 16, internvl"),
    "another image": (sign(lambda row: row["images"][0].update(bytes=b"another")), "image_sha256 says"),
    "another sha256 of an image": (sign(lambda row: put(row["image_sha256"], 0, "0" * 64)), "image_sha256 says"),
    "the map of another shard": (
        lambda folder: shutil.copy(folder / "map-00001.json", folder / "map-00000.json"),
        "map-00000.json: is not the map of shard-00000.arrow",
    ),
    "a map that is none": (
        lambda folder: (folder / "map-00002.json").write_text("{}"),
        "map-00002.json: can't be read as the map of a shard",
    ),
    "a grid of another size": (tile(lambda plan: plan.update(width=16)), "for an image of 16 x 16, internvl makes"),
    "a range too far": (tile(lambda plan: plan.update(start=plan["start"] + 1)), "are not the image tokens of 3 tiles"),
    "a range too early": (tile(lambda plan: plan.update(start=plan["start"] - 1)), "are not the image tokens of"),
    "a range too long": (tile(lambda plan: plan.update(num_tokens=plan["num_tokens"] + 1)), "not the image tokens of"),
    "a range from the end": (
        sign(lambda row: row["tiles"][0].update(start=row["tiles"][0]["start"] - row["num_tokens"])),
        "are not the image tokens of",
    ),
    "a text token in a range": (ids(lambda ids, plan: put(ids, plan["start"] + 2, 5)), "not the image tokens of 3"),
    "an image token in the text": (
        ids(lambda ids, plan: put(ids, 0, ids[plan["start"] + 1])),
        "image tokens outside the images' ranges",
    ),
    "another index row": (index(lambda rows: rows[3].update(language="xx")), r"the index says .*'xx'"),
    "an index in another order": (index(lambda rows: rows.reverse()), r"shard-00000.arrow row 0 .*the index says"),
    "an index row too few": (index(lambda rows: moved(rows.pop(), rows[-1])), "facts.rows is 29, its files give 28"),
    "an index row too many": (
        index(lambda rows: rows.append({**rows[-1], **dict.fromkeys(COUNTS, 0)})),
        "facts.rows is 29, its files give 30",
    ),
    "more kept than there is": (keep_more, r"counts are .*kept=30.*, its files give .*kept=29"),
    "totals": (
        lambda folder: state(facts=(f := manifest(folder)["facts"]) | {"totals": f["totals"] | {"num_tiles": 1}})(
            folder
        ),
        r"facts.totals is .*'num_tiles': 1\b.*, its files give",
    ),
}


def test_a_sound_folder_stays_sound_when_it_is_hashed_again(folder: Path) -> None:
    """So that what the cases below find is their damage."""
    for rewritten in (shard(lambda row: None, TEXT), sign(counted_again(lambda row: None)), index(len)):
        rewritten(folder)
    hash_again(folder)
    assert verify.check(folder).counts.kept == 29


@pytest.mark.parametrize("case", CASES)
def test_verify_finds_what_no_hash_tells(case: str, folder: Path) -> None:
    damage, message = CASES[case]
    damage(folder)
    hash_again(folder)
    with pytest.raises(ManifestError, match=message):
        verify.check(folder)


def renumbered(folder: Path, first: int) -> None:
    """The shards have numbers from `first` on, and the index says so."""
    last = len(list(folder.glob("shard-*"))) - 1
    for number in range(last, -1, -1):
        (folder / f"shard-{number:05d}.arrow").rename(folder / f"shard-{first + number:05d}.arrow")
        (folder / f"map-{number:05d}.json").rename(folder / f"map-{first + number:05d}.json")
    index(lambda rows: [row.update(shard=first + row["shard"]) for row in rows])(folder)

    def name(old: str) -> str:
        kind, _, rest = old.partition("-")
        return f"{kind}-{first + int(rest[:5]):05d}{rest[5:]}" if kind in {"shard", "map"} else old

    files = [entry | {"name": name(entry["name"])} for entry in manifest(folder)["files"]]
    state(files=sorted(files, key=lambda entry: entry["name"]))(folder)
    for path in folder.glob("part-*.json"):
        path.unlink()  # nobody has those of the 99,998 before
    hash_again(folder)


def test_shards_around_the_hundred_thousandth_are_told_by_their_numbers(folder: Path) -> None:
    before = [Shards(folder).sample(number).sample_id for number in range(29)]
    renumbered(folder, 99_998)
    check_shards(folder, read(folder))
    assert [Shards(folder).sample(number).sample_id for number in range(29)] == before


def test_the_trainer_reads_what_the_pipeline_wrote(folder: Path) -> None:
    """Batch after batch proven by the maps, in the order of the index."""
    opened = Shards(folder)
    wanted = pq.read_table(folder / "index.parquet").to_pylist()
    found = [opened.sample(number) for number in range(len(opened))]
    assert [(sample.sample_id, len(sample.input_ids)) for sample in found] == [
        (row["sample_id"], row["num_tokens"]) for row in wanted
    ]
    assert len(found) == 29 and any(sample.images for sample in found)


def test_a_shard_that_is_deleted_is_written_anew_with_the_same_bytes(
    tiny_run: tuple[Path, Context, list[Step]], tmp_path: Path
) -> None:
    """What the trainer says to do about a damaged one."""
    recipe, context, steps = tiny_run
    copy = Path(shutil.copytree(context.out, tmp_path / "out")) / steps[-1].folder
    before = {path.name: path.read_bytes() for path in copy.glob("*-0*")} | {"manifest": manifest(copy)}
    (copy / "shard-00004.arrow").unlink()
    run(recipe, copy.parent)
    assert {path.name: path.read_bytes() for path in copy.glob("*-0*")} | {"manifest": manifest(copy)} == before
