"""A sample that can't be used stops the run with its id and what to do; named in a file it is left out, and counted."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny_shards
from test_train_fit import fit_until
from tiny_shards import talks, write_shards

from schemas.strict import RecipeError
from train import config, trainer
from train.__main__ import main
from train.data.folders import open_shards
from train.data.shards import Shards


@pytest.fixture
def leave_out(tmp_path):
    def write(*lines: str, name: str = "left_out.txt") -> str:
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return str(tmp_path / name)

    return write


def test_the_others_stay_as_they_are_and_are_read_where_they_lie(shards, leave_out):
    whole = Shards(shards)
    path = leave_out("# a picture of nothing", "tests/0", "", "tests/24", "tests/25", "tests/59")
    some = open_shards(str(shards), path)
    keep = [number for number in range(60) if number not in (0, 24, 25, 59)]
    assert (len(some), some.num_left_out, whole.num_left_out) == (56, 4, 0)
    for name in ("num_tokens", "num_target_tokens", "num_tiles"):
        assert np.array_equal(getattr(some, name), getattr(whole, name)[keep])
    assert [some.sample(n).sample_id for n in range(56)] == [f"tests/{n}" for n in keep]
    assert some.identity == whole.identity and some.source.names == ("tests",)


def test_of_several_folders_a_source_that_is_left_out_whole_is_none(shards, tmp_path, leave_out):
    texts = [text for talk in talks(60) for turn in talk.turns for text in turn]
    other = write_shards(tmp_path / "other", talks(2), source="other", texts=texts)
    paths = [str(shards), str(other)]
    both = open_shards(paths, leave_out("tests/0", "tests/1"))  # ids that both folders have
    assert (len(both), both.num_left_out, both.source.names) == (58, 4, ("tests",))
    assert both.sample(0).sample_id == "tests/2"


@pytest.mark.parametrize("line", ["tests/60", "tests", "#tests/0", "tests/0 tests/1"])
def test_an_id_that_no_shard_has_is_refused(shards, leave_out, line):
    with pytest.raises(RecipeError, match=r"^data\.leave_out: .* names .*, and no shard has a sample of that id"):
        open_shards(str(shards), leave_out("tests/1", line))


def test_a_file_that_cannot_be_read_is_one_line(write_config, tmp_path, capsys):
    (tmp_path / "latin").write_bytes(b"caf\xe9\n")
    for place in (tmp_path / "nowhere", tmp_path, tmp_path / "latin"):
        assert main(["plan", str(write_config(**{"data.leave_out": str(place)}))]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: data.leave_out: {place} can't be read (") and error.count("\n") == 1


def test_plan_and_summary_count_what_is_left_out(write_config, leave_out, tmp_path, capsys):
    path = write_config(**{"data.leave_out": leave_out("tests/3", "tests/4")})
    assert main(["plan", str(path)]) == 0
    assert "2 samples left out by data.leave_out" in capsys.readouterr().out
    assert main(["plan", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["left_out"], report["samples"], report["sources"]["tests"]["samples"]) == (2, 116, 116)
    summary = trainer.fit(config.load(path))
    assert (summary.left_out, summary.samples) == (2, 116)
    seen = (tmp_path / "run" / "samples.jsonl").read_text()
    assert '"tests/5"' in seen and '"tests/3"' not in seen and '"tests/4"' not in seen
    assert main(["plan", str(write_config())]) == 0
    assert "left out" not in capsys.readouterr().out


def test_what_is_left_out_is_part_of_the_run_and_where_it_stands_is_not(write_config, leave_out, capsys):
    fit_until(write_config(**{"data.leave_out": leave_out("tests/3", "tests/4")}), 3)
    for changed in (leave_out("tests/3", name="fewer.txt"), None):
        assert main(["fit", str(write_config(**{"data.leave_out": changed} if changed else {}))]) == 2
        assert capsys.readouterr().err.startswith("error: data.leave_out: ")
    moved = leave_out("# sorted otherwise", "tests/4", "tests/3", name="moved.txt")
    path = write_config(**{"data.leave_out": moved})
    assert main(["fit", str(path)]) == 0
    (path.parent / "moved.txt").unlink()  # answering asks for none of it
    assert main(["generate", str(path), "Say yes."]) == 0


def test_a_damaged_picture_stops_with_its_id_and_can_be_left_out(
    tmp_path, write_config, leave_out, capsys, monkeypatch
):
    """Its bytes are what the shard says, and no picture."""
    real = tiny_shards.png
    planted = talks(60)
    planted[7] = tiny_shards.Talk((("red", (77, 16)),), (("Which colour?", "red"),))
    monkeypatch.setattr(tiny_shards, "png", lambda *of: b"no picture" if of[1] == (77, 16) else real(*of))
    broken = write_shards(tmp_path / "broken", planted)
    path = write_config(**{"data.shards": str(broken)})
    assert main(["fit", str(path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: tests/7 image 0: ") and error.count("\n") == 1
    assert "write the shards again, or name it in data.leave_out" in error
    assert "which is another run: with another run.out, where model.from" in error
    keys = {"data.shards": str(broken), "data.leave_out": leave_out("tests/7")}
    keys |= {"run.out": str(tmp_path / "second")}
    assert main(["fit", str(write_config(**keys))]) == 0


def test_the_remedy_of_a_loss_that_is_no_number_works(write_config, leave_out, tmp_path, capsys):
    """The same folder is refused with samples left out, and another one goes on from its weights."""
    fit_until(write_config(), 3)
    broken = {"optimiser.learning_rate": 1e30, "optimiser.warmup_steps": 0, "run.out": str(tmp_path / "broken")}
    assert main(["fit", str(write_config(**broken))]) == 1
    error = capsys.readouterr().err
    assert "name it in data.leave_out, which is another run: with another run.out, where model.from" in error
    keys = {"data.leave_out": leave_out("tests/3")}
    assert main(["fit", str(write_config(**keys))]) == 2
    keys |= {"run.out": str(tmp_path / "second"), "model.from": str(tmp_path / "run"), "data.epochs": 1}
    assert main(["fit", str(write_config(**keys))]) == 0
