"""A checkpoint brings back every bit or is refused by name; whatever is named `step-*` is whole."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from train import checkpoint, config, run_folder, tensor_files, trainer
from train.checkpoint import CheckpointError, Record
from train.config import OptimiserConfig
from train.optim import optimiser

SETTINGS = OptimiserConfig("muon", 0.1, 0.5, 1.0, "cosine", warmup_steps=0)


@pytest.fixture(scope="module")
def pool():
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def tokenizer(tmp_path: Path) -> dict[str, Path]:
    """Files that lie anywhere, one of them in a folder."""
    (tmp_path / "a").write_text("{}")
    (tmp_path / "b").write_text("template")
    return {"tokenizer.json": tmp_path / "a", "more/chat_template.jinja": tmp_path / "b"}


class Small(nn.Module):
    """A table tied to its head, a matrix, a norm, and a matrix that gets no gradient."""

    def __init__(self, seed: int, width: int = 4) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.table = nn.Embedding(7, width)
        self.matrix = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.tower = nn.Linear(width, width)
        self.head = nn.Linear(width, 7, bias=False)
        self.head.weight = self.table.weight

    def learn(self, optimisers, steps: int) -> None:
        for step in range(steps):
            self.zero_grad()
            self.head(self.norm(self.matrix(self.table(torch.tensor([step, step + 1]))))).square().sum().backward()
            for each in optimisers:
                each.step()


def made(pool, seed: int, steps: int = 0):
    model = Small(seed)
    optimisers = optimiser.make(model, SETTINGS, pool)
    model.learn(optimisers, steps)
    return model, optimisers


def record(step: int = 3) -> Record:
    return Record({"data": {"seed": 1}}, {"vocab_size": 7}, {"seed": 1}, step, 1, 2)


def save(out: Path, tokenizer: dict[str, Path], pool, step: int = 3) -> Path:
    return run_folder.save(out, record(step), checkpoint.parts(*made(pool, 1)), tokenizer)


def test_a_run_goes_on_from_a_checkpoint_bit_for_bit(pool, tmp_path, tokenizer):
    model, optimisers = made(pool, 1, steps=3)
    folder = run_folder.save(tmp_path / "out", record(), checkpoint.parts(model, optimisers), tokenizer)
    again, theirs = made(pool, 2, steps=1)
    checkpoint.load(folder, again)
    checkpoint.load_optimisers(folder, again, theirs)
    model.learn(optimisers, 2)
    again.learn(theirs, 2)
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())
    assert again.head.weight is again.table.weight
    found = checkpoint.read(folder)
    assert replace(found, files={}) == record() and run_folder.newest(tmp_path / "out") == (folder, found)


@pytest.mark.parametrize("kernel", ["fused", "capturable", None])
def test_the_count_of_steps_is_where_the_optimisers_kernel_reads_it(kernel, tmp_path, tokenizer):
    """A fused step on a GPU wants it there; another one reads it on the CPU. Moments are beside their weights."""
    model = Small(1)
    optimisers = [torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)]
    model.learn(optimisers, 2)
    folder = run_folder.save(tmp_path / "out", record(), checkpoint.parts(model, optimisers), tokenizer)
    elsewhere = Small(2).to("meta")
    (again,) = theirs = [torch.optim.AdamW(elsewhere.parameters(), lr=0.1)]
    if kernel:
        again.param_groups[0][kernel] = True
    checkpoint.load_optimisers(folder, elsewhere, theirs)
    assert again.state
    for state in again.state.values():
        assert state["step"].device.type == ("meta" if kernel else "cpu")
        assert state["exp_avg"].is_meta and state["exp_avg_sq"].is_meta


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_run_in_float32_on_a_gpu_goes_on(write_config, tmp_path):
    def killed(line) -> None:
        if line.step == 5:
            raise KeyboardInterrupt

    keys = {"run.out": str(tmp_path / "run"), "run.device": "cuda", "optimiser.matrices": "adamw", "data.epochs": 1}
    of = config.load(write_config(**keys))
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(of, killed)
    assert trainer.fit(of).steps == 8
    folder, _ = run_folder.newest(tmp_path / "run")
    assert load_file(folder / "optimiser-r00000.safetensors")["language.model.norm.weight.step"] == 8


def test_a_checkpoint_holds_the_stated_files_and_no_pickle(pool, tmp_path, tokenizer):
    folder = save(tmp_path / "out", tokenizer, pool, step=12)
    assert folder == tmp_path / "out" / "step-000012"
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert sorted(files) == [
        "checkpoint.json",
        "model-r00000.safetensors",
        "optimiser-r00000.safetensors",
        "tokenizer/more/chat_template.jinja",
        "tokenizer/tokenizer.json",
    ]
    for name in ("model-r00000.safetensors", "optimiser-r00000.safetensors"):
        length = int.from_bytes(files[name][:8], "little")
        assert isinstance(json.loads(files[name][8 : 8 + length]), dict)  # a header of JSON, then numbers


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape"])
def test_weights_of_another_model_are_refused(pool, tmp_path, tokenizer, change):
    folder = save(tmp_path / "out", tokenizer, pool)
    other = Small(1, width=5 if change == "shape" else 4)
    if change == "missing":
        other.extra = nn.Linear(2, 2)
    if change == "unexpected":
        del other.tower
    with pytest.raises(
        CheckpointError, match=r"the weights of another model .*(extra|tower|table.weight is \[7, 4\], wanted \[7, 5\])"
    ):
        checkpoint.load(folder, other)


# ---- which one is the newest


def test_there_is_one_checkpoint_the_newest_by_number(pool, tmp_path, tokenizer):
    out = tmp_path / "out"
    out.mkdir()
    assert run_folder.newest(out) is None
    (out / ".step-000001").mkdir(parents=True)
    assert run_folder.newest(out) is None
    (out / ".step-000001").rmdir()
    for step in (999_999, 1_000_000):
        folder = save(out, tokenizer, pool, step)
        assert run_folder.newest(out)[0] == folder == out / f"step-{step}"
        assert [path.name for path in out.iterdir()] == [f"step-{step}"]


def test_an_older_one_left_by_a_kill_is_not_used_and_goes_with_the_next_save(pool, tmp_path, tokenizer):
    older = save(tmp_path / "older", tokenizer, pool, 999_999)
    newer = save(tmp_path / "out", tokenizer, pool, 1_000_000)
    shutil.copytree(older, newer.parent / older.name)
    assert run_folder.newest(newer.parent)[0] == newer
    last = save(newer.parent, tokenizer, pool, 1_000_001)
    assert list(newer.parent.iterdir()) == [last]


def test_a_kill_while_saving_leaves_the_older_one_and_the_next_save_clears_up(pool, tmp_path, tokenizer, monkeypatch):
    out = tmp_path / "out"
    older = save(out, tokenizer, pool, step=3)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tensor_files, "save_file", killed)  # in the middle of the draft
        save(out, tokenizer, pool, step=6)
    assert (out / ".step-000006").is_dir() and run_folder.newest(out)[0] == older
    (out / ".step-000006" / "stray").write_text("half")
    newer = save(out, tokenizer, pool, step=9)
    assert [path.name for path in out.iterdir()] == [newer.name]


def test_everything_is_on_the_disk_before_it_has_a_name_and_before_the_older_one_goes(
    pool, tmp_path, tokenizer, monkeypatch
):
    out = tmp_path / "out"
    older = save(out, tokenizer, pool, step=3)
    done: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def watched_fsync(handle: int) -> None:
        fsync(handle)
        assert older.is_dir()
        done.append(str(Path(f"/proc/self/fd/{handle}").readlink().relative_to(out)))

    def watched_rename(path: Path, target: Path) -> Path:
        done.append("renamed")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "rename", watched_rename)
    save(out, tokenizer, pool, step=6)
    draft = ".step-000006"
    files = ["checkpoint.json", "model-r00000.safetensors", "optimiser-r00000.safetensors", "tokenizer/tokenizer.json"]
    before = done[: done.index("renamed")]
    assert set(before) >= {f"{draft}/{name}" for name in files}
    assert before[0] == f"{draft}/checkpoint.json"  # whose the draft is
    before = before[2:]
    ends = [before.index(name) for name in (f"{draft}/tokenizer/more", f"{draft}/tokenizer", draft)]
    assert ends == sorted(ends) and ends[-1] == len(before) - 1  # a folder after what it holds
    assert done[len(before) + 2 :] == ["renamed", "."]
    assert not older.exists()


def test_saving_leaves_no_file_open(pool, tmp_path, tokenizer):
    save(tmp_path, tokenizer, pool, step=3)
    before = len(list(Path("/proc/self/fd").iterdir()))
    save(tmp_path, tokenizer, pool, step=6)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# ---- whose it is


def test_what_makes_a_run_another(write_config):
    one = checkpoint.identity(config.load(write_config()), "abc")
    assert one["data"]["shards"] == "abc" and one.keys() == {"data", "model", "optimiser", "weights"}
    same = {"data.shards": "/elsewhere", "run.threads": 3, "run.out": "/tmp/other", "run.log_every": 7}
    assert checkpoint.identity(config.load(write_config(**same)), "abc") == one
    for key, value in {
        **{"data.seed": 9, "data.batch_size": 9, "data.epochs": 9, "data.max_tokens_per_pack": 900},
        **{"model.init_seed": 9, "model.vision.num_layers": 9, "model.language.num_layers": 9},
        **{"optimiser.schedule": "wsd", "optimiser.matrices": "adamw", "optimiser.clip": 9.0},
    }.items():
        assert checkpoint.identity(config.load(write_config(**{key: value})), "abc") != one, key
    assert checkpoint.identity(config.load(write_config()), "abd") != one
    assert checkpoint.identity(config.load(write_config()), "abc", {"model.from": "0"}) != one


@pytest.mark.parametrize(
    ("found", "wanted", "message"),
    [
        ({"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 2, "d": 4}}, r"b\.d: .*made with 3, the config says 4"),
        ({"b": {"c": 2, "d": 3}}, {"b": {"d": 4, "c": 1}}, r"b\.c: .*made with 2, the config says 1"),
        ({"a": 1, "b": 2}, {"a": 1}, r"b: .*made with 2, the config says None"),
        ({"a": 1}, {"a": 1, "b": 2}, r"b: .*made with None, the config says 2"),
    ],
)
def test_another_identity_is_refused_by_its_first_key(tmp_path, found, wanted, message):
    with pytest.raises(CheckpointError, match=f"^{message}; put it back"):
        checkpoint.refuse_other(tmp_path, found, wanted)
    checkpoint.refuse_other(tmp_path, found, found)


def test_a_folder_is_held_by_one_run_at_a_time_and_given_back(tmp_path):
    out = tmp_path / "not" / "there"
    for _ in range(2):
        with run_folder.lock(out):
            with pytest.raises(CheckpointError, match="another run is training here"), run_folder.lock(out):
                pass


def test_a_checkpoint_under_another_ones_name_is_refused(pool, tmp_path, tokenizer):
    folder = save(tmp_path, tokenizer, pool, 3)
    checkpoint.prove(folder, checkpoint.read(folder))
    moved = folder.rename(tmp_path / checkpoint.name(4))
    with pytest.raises(CheckpointError, match="its record is of step-000003"):
        checkpoint.prove(moved, checkpoint.read(moved))
    files = {name: sha256 for name, sha256 in record().files.items() if name != checkpoint.WEIGHTS}
    with pytest.raises(CheckpointError, match="not of this folder"):
        checkpoint.prove(folder, replace(record(), files=files))
