"""`train export`: from a run's folder to a folder that can be trained further; its card; its errors, each in a line."""

from __future__ import annotations

import json
import re

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_shards import CONFIG, merged

from schemas import strict
from train import checkpoint, config, run_folder, trainer
from train.__main__ import main
from train.config import ModelConfig
from train.data.shards import Facts
from train.export import proof
from train.inference.identity import identity
from train.inference.opened import located, opened
from train.models import build, lora, published

LORA = {"model.lora": {"rank": 4, "alpha": 8, "dropout": 0.0}, "optimiser.matrices": "adamw"}


@pytest.fixture(scope="module")
def trained(shards, tmp_path_factory):
    """(config, run folder) of a few steps with adapters."""
    place = tmp_path_factory.mktemp("trained")
    path = place / "config.yaml"
    changes = {"data.shards": str(shards), "run.out": str(place / "run"), "data.epochs": 1, **LORA}
    path.write_text(yaml.safe_dump(merged(CONFIG, **changes)))
    trainer.fit(config.load(path))
    return path, place / "run"


@pytest.fixture
def report(tmp_path):
    """As the pipeline writes it."""
    counts = {
        "rows_in": 1360,
        "kept": 1352,
        "dropped": {"dedupe.duplicate": 3},
        "rejected": {"ingest.image_missing": 5},
    }
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"by_source": {"fi|ne `x`": counts}, "all": counts}))
    return path


def test_a_run_is_exported_checked_and_goes_on_from_the_export(trained, shards, tmp_path, capsys):
    path, run = trained
    out = tmp_path / "out"
    assert main(["export", str(run), "--out", str(out), "--dtype", "fp32", "--shard-size", "100KB"]) == 0
    told = capsys.readouterr().out
    assert "checked by transformers alone" in told and len(list(out.glob("model-*.safetensors"))) > 1
    ours = opened(path)
    read = opened(out)
    assert read.config.lora is None and read.context == ours.context
    for name, tensor in ours.model.state_dict().items():
        assert torch.equal(tensor, read.model.state_dict()[name]), name
    record = json.loads((out / "tessera.json").read_text())
    assert (
        record["run"]["data"]["shards"]
        == json.loads(json.dumps(checkpoint.read(ours.folder).identity))["data"]["shards"]
    )
    assert (
        str(tmp_path) not in (out / "tessera.json").read_text() and str(shards) not in (out / "README.md").read_text()
    )
    further = tmp_path / "further.yaml"
    changes = {"data.shards": str(shards), "run.out": str(tmp_path / "further"), "model.from": str(out)}
    further.write_text(yaml.safe_dump(merged(CONFIG, **changes)))
    assert main(["plan", str(further)]) == 0
    assert trainer.fit(config.load(further)).steps > 0


def test_adapters_are_merged_in_float32_and_rounded_once(trained, tmp_path):
    _, run = trained
    out = tmp_path / "out"
    assert main(["export", str(run), "--out", str(out), "--no-check"]) == 0
    folder, record = run_folder.newest(run)
    model = strict.build(ModelConfig, record.identity["model"], "model")
    made = build.build(model, strict.build(Facts, record.facts, "facts"))
    checkpoint.load(folder, made)
    name = "language.model.layers.0.self_attn.q_proj"
    layer = made.get_submodule(name)
    assert isinstance(layer, lora.Adapted) and layer.lora_B.weight.any()
    wanted = (layer.weight.double() + layer.scale * layer.lora_B.weight.double() @ layer.lora_A.weight.double()).float()
    found = load_file(out / "model.safetensors")[f"language_model.{name.removeprefix('language.')}.weight"]
    assert found.dtype == torch.bfloat16 and (found != layer.weight.bfloat16()).any()
    assert (found != wanted.bfloat16()).float().mean() < 0.001
    assert published.names(made, model).keys() == load_file(out / "model.safetensors").keys()


def test_adapters_alone_are_those_of_the_run(trained, tmp_path, capsys):
    out = tmp_path / "adapter"
    (tmp_path / ".adapter.part").mkdir()  # of one that was killed
    assert main(["export", str(trained[1]), "--out", str(out), "--adapter"]) == 0
    told = json.loads((out / "adapter_config.json").read_text())
    assert (told["r"], told["lora_alpha"]) == (4, 8)
    weights = load_file(out / "adapter_model.safetensors")
    assert len(weights) == 2 * 7 * 2 and all(
        name.startswith("base_model.model.language_model.model.") for name in weights
    )
    assert main(["export", str(trained[1]), "--out", str(out), "--adapter"]) == 2
    assert "is there already" in capsys.readouterr().err


def test_the_card_says_what_is_known_and_no_text_becomes_markdown(trained, report, tmp_path):
    card = tmp_path / "card.yaml"
    card.write_text(
        "name: Tiny *one*\nlicence: apache-2.0\nbase_models: {acme/base: mit, '# not <b>a</b> name': null}\n"
        "datasets: {acme/data: null}\nlanguages: [en, ja]\ntext: |\n  # For *tests*\n  <script>\n"
    )
    results = tmp_path / "results" / "chartqa"
    results.mkdir(parents=True)
    (results / "asked.json").write_text("{}")
    found = {"benchmark": "chartqa", "metric": "relaxed_accuracy", "n": 1200, "score": 0.512}
    found |= {"interval": {"low": 0.48, "high": 0.54, "level": 0.95}, "model": identity(located(trained[1]))}
    (results / "summary.json").write_text(json.dumps(found))
    arguments = ["--card", str(card), "--report", str(report), "--evaluation", str(tmp_path / "results"), "--no-check"]
    assert main(["export", str(trained[1]), "--out", str(tmp_path / "out"), *arguments]) == 0
    text = (tmp_path / "out" / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    told = yaml.safe_load(front)
    assert told == {
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "license": "apache-2.0",
        "language": ["en", "ja"],
        "base_model": ["acme/base"],
        "datasets": ["acme/data"],
    }
    assert "# `Tiny *one*`" in body and "\n    # For *tests*\n    <script>\n" in body
    assert "| `` fi\\|ne `x` `` | 1,360 | 5 | 3 | 1,352 |" in body
    assert "| `chartqa` | `relaxed_accuracy` | 1,200 | 0.512 | 0.480 to 0.540 |" in body
    assert "| `# not <b>a</b> name` | not said |" in body and "`acme/base` | `mit`" in body
    record = checkpoint.read(run_folder.newest(trained[1])[0])
    assert record.identity["data"]["shards"][:16] in body and f"| `step` | `{record.step}` |" in body
    summary = json.loads((trained[1] / "summary.json").read_text())
    assert f"| `last_loss` | {summary['last_loss']:,} |" in body


def test_scores_of_another_model_are_refused(trained, tmp_path, capsys):
    results = tmp_path / "results" / "chartqa"
    results.mkdir(parents=True)
    (results / "asked.json").write_text("{}")
    (results / "summary.json").write_text(
        json.dumps(
            {"benchmark": "chartqa", "metric": "anls", "n": 9, "score": 1.0, "model": {"name": "x", "content": "1"}}
        )
    )
    arguments = ["--evaluation", str(tmp_path / "results"), "--no-check"]
    assert main(["export", str(trained[1]), "--out", str(tmp_path / "out"), *arguments]) == 2
    told = capsys.readouterr().err
    assert "chartqa was answered by x, which is not run/step-" in told and not (tmp_path / "out").exists()


@pytest.mark.parametrize("more", [["--push", "acme/x"], ["--report", "report.json"]])
def test_beside_an_adapter_nothing_is_passed_over(trained, tmp_path, capsys, more):
    assert main(["export", str(trained[1]), "--out", str(tmp_path / "out"), "--adapter", *more]) == 2
    assert capsys.readouterr().err.startswith(f"error: {more[0]}: is for a whole export; ")


def test_a_card_without_anything_told_invents_nothing(trained, tmp_path):
    assert main(["export", str(trained[1]), "--out", str(tmp_path / "out"), "--no-check"]) == 0
    text = (tmp_path / "out" / "README.md").read_text()
    assert "license" not in text and "Licences" not in text and "Evaluation" not in text and "What was kept" not in text


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["--out", "{place}"], 2, "is there already; remove it or name another folder"),
        (["--out", "{place}/new", "--shard-size", "5 apples"], 2, "got 5 apples, wanted a size such as 5GB"),
        (["--out", "{place}/new", "--report", "{place}/no.json"], 2, r"no\.json: can't be read"),
        (["--out", "{place}/new", "--report", "{place}/other.json"], 2, "is no report.json of the pipeline"),
        (["--out", "{place}/new", "--evaluation", "{place}"], 2, r"no evaluation in it"),
        (["--out", "{place}/new", "--card", "{place}/card.yaml"], 2, "licens"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(trained, tmp_path, capsys, arguments, code, error):
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "card.yaml").write_text("licens: mit\n")
    given = [argument.format(place=tmp_path) for argument in arguments]
    assert main(["export", str(trained[1]), *given, "--no-check"]) == code
    told = capsys.readouterr().err
    assert re.search(error, told) and told.count("\n") == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_processor_that_cuts_otherwise_is_found(trained, tmp_path, monkeypatch, capsys):
    """A line of the file that cuts tiles is another one."""
    whole = proof.alone

    def spoilt(folder, *others):
        path = folder / "processing.py"
        path.write_text(path.read_text().replace("/ 127.5 - 1.0", "/ 128.0 - 1.0"))
        return whole(folder, *others)

    monkeypatch.setattr(proof, "alone", spoilt)
    assert main(["export", str(trained[1]), "--out", str(tmp_path / "out")]) == 2
    assert "cuts other pixels from the pictures of conversation 1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))
