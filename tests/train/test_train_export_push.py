"""`train export --push` to a Hub on loopback: one commit of the folder's bytes; errors of a line, without the token."""

from __future__ import annotations

import pytest
from tiny_exports import exported, tiny

from tests.pipeline.net.hub_for_push import TOKEN, TakingHub, taking
from train.__main__ import main

# What the Hub's library says of the one that it sends with
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")


@pytest.fixture
def hub(monkeypatch):
    with taking(TakingHub(kind="model")) as found:
        monkeypatch.setenv("HF_ENDPOINT", found.endpoint)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        # Read where the library is imported; loopback has no storage but LFS
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        yield found


@pytest.fixture
def folder(tmp_path):
    return exported(tmp_path / "out", tiny("llava", tmp_path))


def test_every_file_is_in_one_commit(hub, folder, capsys):
    assert main(["export", str(folder), "--push", "acme/tiny", "--private"]) == 0
    told = capsys.readouterr()
    assert f"pushed: {hub.endpoint}/acme/tiny, commit " in told.out and TOKEN not in told.out + told.err
    there = {name: data for name, data in hub.branches["main"].items() if name != ".gitattributes"}
    assert there == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert hub.private and hub.commits == 1 and hub.puts() == len(list(folder.glob("*.safetensors")))


def test_an_export_is_written_and_pushed(hub, folder, tmp_path, capsys):
    out = tmp_path / "twice"
    assert main(["export", str(folder), "--out", str(out), "--no-check", "--push", "acme/tiny"]) == 0
    assert hub.branches["main"]["config.json"] == (out / "config.json").read_bytes()


def test_weights_of_an_earlier_export_do_not_stay(hub, folder, tmp_path):
    def there():
        return {name for name in hub.branches["main"] if name.endswith((".safetensors", ".safetensors.index.json"))}

    def push(*options):
        assert main(["export", str(folder), *options, "--push", "acme/tiny"]) == 0

    push()
    parts = {path.name for path in folder.glob("model*")}
    assert there() == parts and len(parts) > 3
    hub.branches["main"]["older/model.safetensors"] = b"somebody's"
    push("--out", str(tmp_path / "whole"), "--no-check")
    assert there() == {"model.safetensors", "older/model.safetensors"}
    push()  # with the file above beside them transformers would read that
    assert there() == {*parts, "older/model.safetensors"}


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (("/api/repos/create", 403), "the token may not write there (403)"),
        (("/api/repos/create", 401), "doesn't know the token (401)"),
        (("/commit/", 400), "answers 400"),
    ],
)
def test_what_the_hub_refuses_is_one_line(hub, folder, capsys, fault, error):
    hub.faults.append(fault)
    assert main(["export", str(folder), "--push", "acme/tiny"]) == 2
    told = capsys.readouterr().err
    assert error in told and f"`export {folder} --push acme/tiny` sends it again" in told
    assert told.count("\n") == 1 and TOKEN not in told


def test_what_can_not_be_pushed_is_said_before_anything_is_written(hub, folder, tmp_path, capsys, monkeypatch):
    assert main(["export", str(folder), "--push", "nobody"]) == 2
    assert "--push nobody: wanted owner/name" in capsys.readouterr().err
    assert main(["export", str(tmp_path), "--push", "acme/tiny"]) == 2
    assert "is no export (tessera.json is not there)" in capsys.readouterr().err
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert main(["export", str(folder), "--out", str(tmp_path / "new"), "--push", "acme/tiny"]) == 2
    assert "no token for the Hub" in capsys.readouterr().err and not (tmp_path / "new").exists()
    assert hub.log == []
