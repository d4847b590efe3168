"""Several shard folders train as one: every sample from its own; what one model can't read together is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_shards import Talk, talks, write_shards

from schemas.strict import RecipeError
from train.__main__ import main
from train.data.folders import Folders, open_shards
from train.data.shards import Shards


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[str]:
    """30 samples of `first`, 15 of `second`, with one tokenizer."""
    made = tmp_path_factory.mktemp("folders")
    few = talks(30)
    return [
        str(write_shards(made / name, samples, per_shard=10, source=name, texts=["Which colour is second?", "red"]))
        for name, samples in (("first", few), ("second", few[:15]))
    ]


def test_every_sample_is_read_from_its_own_folder(folders):
    opened, alone = open_shards(folders), [Shards(folder) for folder in folders]
    assert isinstance(opened, Folders) and len(opened) == 45
    for number in (0, 7, 29, 30, 31, 44):
        at = (0, number) if number < 30 else (1, number - 30)
        found, wanted = opened.sample(number), alone[at[0]].sample(at[1])
        assert found.sample_id == wanted.sample_id and found.input_ids.tolist() == wanted.input_ids.tolist()
        assert opened.num_tokens[number] == len(found.input_ids)
    assert opened.source.names == ("first", "second")
    assert opened.source.codes.tolist() == [0] * 30 + [1] * 15


def test_a_list_of_one_is_that_folder(folders):
    assert isinstance(open_shards(folders[:1]), Shards)


def test_named_folders_name_their_sources(folders):
    opened = open_shards({"b": folders[0], "a": folders[1]})
    assert opened.source.names == ("a:second", "b:first")
    assert np.array(opened.source.names)[opened.source.codes].tolist() == ["b:first"] * 30 + ["a:second"] * 15
    assert opened.identity.keys() == {"a", "b"}


def test_sources_of_one_name_are_refused_or_told_apart(folders):
    with pytest.raises(RecipeError, match=r"both have a source 'first'; name the folders"):
        open_shards([folders[0], folders[0]])
    assert open_shards({"a": folders[0], "b": folders[0]}).source.names == ("a:first", "b:first")


def test_folders_of_another_tokenizer_are_refused(folders, tmp_path):
    other = write_shards(tmp_path / "other", [Talk((), (("Wie heißt das Ding dort?", "Ding heißt das"),))], source="x")
    with pytest.raises(RecipeError, match=r"other is of tokenizer \w{8} and not \w{8} of .*first; one model can't"):
        open_shards([folders[0], str(other)])


def test_a_mixture_of_folders_trains_and_goes_on_and_another_is_refused(folders, write_config, tmp_path, capsys):
    keys = {"data.shards": folders, "data.epochs": None, "data.steps": 6}
    mixture = {"unit": "tokens", "weights": {"first": 1, "second": 3}}
    path = str(write_config(**keys, **{"data.mixture": mixture}))
    assert main(["fit", path]) == 0
    assert main(["fit", path]) == 0
    assert "all 6 steps are done" in capsys.readouterr().out
    changed = {"unit": "tokens", "weights": {"first": 1, "second": 2}}
    assert main(["fit", str(write_config(**keys, **{"data.mixture": changed}))]) == 2
    assert "data.mixture.weights.second: " in capsys.readouterr().err
    assert main(["fit", str(write_config(**{**keys, "data.shards": folders[:1]}))]) == 2
    assert Path(tmp_path / "run" / "summary.json").is_file()
