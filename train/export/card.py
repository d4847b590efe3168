"""README.md of an export: what the model is, what it learnt from and how, what it scored, whose licences apply.

Everything in it is read from something: the checkpoint's record, the run's summary, the pipeline's report, the results
of evaluations, and a file in which whoever publishes says what no other file knows. What is not known is not written.
Texts that are not ours stand as code, so that none of them becomes Markdown.

    name: vqwen3-4b                      # default: the folder's name
    licence: apache-2.0                  # the Hub's word for it
    base_models: {openai/clip-vit-large-patch14-336: mit, Qwen/Qwen3-4B: apache-2.0}   # or null: not known
    datasets: {liuhaotian/LLaVA-Pretrain: null}
    languages: [en, ja]
    text: What it is for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from schemas import strict, yaml_file
from schemas.shown import shown
from train.evaluate.runner import SUMMARY, answered
from train.export.failure import ExportError
from train.inference.opened import Opened

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Told:
    """The card file. Names -> licences, null where it is not known."""

    name: str | None = None
    licence: str | None = None
    base_models: dict[str, str | None] = field(default_factory=dict)
    datasets: dict[str, str | None] = field(default_factory=dict)
    languages: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Known:
    """What other files say. `run`: the identity of the run, `summary` what it came to, `funnel` the pipeline's report,
    `results` the summaries of evaluations."""

    run: Mapping[str, Any] | None = None
    summary: Mapping[str, Any] | None = None
    funnel: Mapping[str, Any] | None = None
    results: Sequence[Mapping[str, Any]] = ()


def read_told(path: Path | None) -> Told:
    """Raises RecipeError."""
    if path is None:
        return Told()
    return strict.build(Told, yaml_file.read(path), str(path))


def read_known(of: Opened, run: Mapping[str, Any] | None, report: Path | None, evaluation: Path | None) -> Known:
    """Raises ExportError."""
    summary = of.folder.parent / "summary.json"
    # A run that goes on has the summary of another checkpoint
    found = _json(summary) if summary.is_file() else None
    summary_of = found if found and found.get("checkpoint") == of.folder.name else None
    results = [_json(folder / SUMMARY) for folder in answered(evaluation)] if evaluation else []
    if evaluation and not results:
        raise ExportError(f"--evaluation {evaluation}: no evaluation in it; name the --out of `evaluate`")
    for one in results:
        if (model := one.get("model") or {}).get("content") != of.identity["content"]:
            raise ExportError(
                f"--evaluation {evaluation}: {one.get('benchmark')} was answered by {model.get('name')}, which is not "
                f"{of.name}; evaluate the model that is exported"
            )
    return Known(run, summary_of, _json(report) if report else None, results)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("no object")
        return found
    except (OSError, ValueError) as error:
        raise ExportError(f"{path}: can't be read ({' '.join(str(error).split())})") from None


def text(of: Opened, told: Told, known: Known, name: str) -> str:
    """The whole file."""
    family = of.config.family
    front = yaml.safe_dump(_front(told, known), sort_keys=False, allow_unicode=True)
    parts = [
        f"# {code(told.name or name)}",
        quoted(told.text) if told.text else "",
        _model(of),
        _use(family == "llava"),
        _pictures(of),
        *_data(known),
        *_training(known),
        *_results(known),
        *_licences(told),
    ]
    return f"---\n{front}---\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def _front(told: Told, known: Known) -> dict[str, Any]:
    """For the Hub; it refuses words that it does not know, so names of repositories alone stand here."""
    names = {kind: [n for n in found if _HUB_NAME.fullmatch(n)] for kind, found in _parts(told)}
    front: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "license": told.licence,
        "language": [*told.languages],
        "base_model": names["base_model"],
        "datasets": names["datasets"],
    }
    return {key: value for key, value in front.items() if value}


def _parts(told: Told) -> Iterator[tuple[str, Mapping[str, str | None]]]:
    yield "base_model", told.base_models
    yield "datasets", told.datasets


def _model(of: Opened) -> str:
    vision, language = of.config.vision, of.config.language
    total = sum(p.numel() for p in of.model.parameters())
    lines = [
        ("family", code(of.config.family)),
        ("parameters", f"{total:,}"),
        ("tower", f"{vision.num_layers} layers of width {vision.hidden_size}"),
        ("decoder", f"{code(language.architecture)}, {language.num_layers} layers of width {language.hidden_size}"),
        ("tiles", code(of.facts.scheme.scheme) + f", {of.facts.scheme.side} pixels"),
    ]
    return "## Model\n\n" + table(["", ""], lines)


def _use(stock: bool) -> str:
    given = "" if stock else ", trust_remote_code=True"
    loads = "LlavaForConditionalGeneration" if stock else "AutoModel"
    new = 'output[0, inputs["input_ids"].shape[1]:]' if stock else "output[0]"
    return f"""## Use

```python
import torch
from transformers import AutoProcessor, {loads}

model = {loads}.from_pretrained(MODEL, dtype=torch.bfloat16{given})
processor = AutoProcessor.from_pretrained(MODEL{given})
content = [{{"type": "image", "image": "picture.jpg"}}, {{"type": "text", "text": "What is this?"}}]
inputs = processor.apply_chat_template(
    [{{"role": "user", "content": content}}],
    tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt",
)
output = model.generate(**inputs.to(model.device, torch.bfloat16), max_new_tokens=256)
print(processor.decode({new}, skip_special_tokens=True))
```"""


def _pictures(of: Opened) -> str:
    if of.config.family != "llava":
        return (
            "Pictures are cut by `processing.py`, which is the code that cut them for training; the Python files here "
            "need torch, numpy, Pillow and transformers 5.17 or later. `generate` returns the new tokens alone."
        )
    return (
        "It learnt from pictures that Pillow resized, turned upright by their EXIF orientation, with white behind what "
        'is transparent. Where torchvision is installed, load the processor with `backend="pil"` for the same '
        "pixels; `ImageOps.exif_transpose` turns a picture upright. A text that holds an image token or another "
        "control token is read as one: pass `sanitize_control_tokens=True` to `apply_chat_template` for texts of "
        "strangers."
    )


def _data(known: Known) -> Iterator[str]:
    if known.run is not None:
        shards = known.run["data"]["shards"]
        yield f"## Data\n\nShards (their identity is a hash of every byte): {code(json.dumps(shards))}."
    if known.funnel is not None:
        yield from _funnel(known.funnel)


def _funnel(report: Mapping[str, Any]) -> Iterator[str]:
    try:
        ledgers = {**{code(name): found for name, found in report["by_source"].items()}, "**all**": report["all"]}
        lines = []
        for name, found in ledgers.items():
            counts = (found["rows_in"], *(sum(found[kind].values()) for kind in ("rejected", "dropped")), found["kept"])
            lines.append((name, *(f"{number:,}" for number in counts)))
        reasons = {**report["all"]["rejected"], **report["all"]["dropped"]}
    except (KeyError, TypeError, AttributeError, ValueError):
        raise ExportError("--report: is no report.json of the pipeline; name the one in its output folder") from None
    yield "### What was kept\n\nRows in = rejected + dropped + kept.\n\n" + table(
        ["source", "rows in", "rejected", "dropped", "kept"], lines
    )
    if reasons:
        yield table(["reason", "rows"], [(code(reason), f"{number:,}") for reason, number in sorted(reasons.items())])


def _training(known: Known) -> Iterator[str]:
    if known.run is None:
        return
    optimiser, model = known.run["optimiser"], known.run["model"]
    told = {"step": known.run.get("step"), "lora": model.get("lora"), **optimiser}
    lines = [(code(key), code(json.dumps(value))) for key, value in told.items() if value is not None]
    yield "## Training\n\n" + table(["", ""], lines)
    if known.summary is not None:
        wanted = ("steps", "samples", "tokens", "target_tokens", "first_loss", "last_loss", "seconds")
        found = [(code(key), f"{known.summary[key]:,}") for key in wanted if known.summary.get(key) is not None]
        yield table(["of the run", ""], found)


def _results(known: Known) -> Iterator[str]:
    lines = []
    for one in known.results:
        if not {"benchmark", "metric", "n", "score"} <= one.keys():
            raise ExportError("--evaluation: has a summary.json that is no evaluation's; name what `evaluate` wrote")
        interval = one.get("interval")
        span = f"{interval['low']:.3f} to {interval['high']:.3f}" if interval else ""
        score = "not judged yet" if one["score"] is None else f"{one['score']:.3f}"
        lines.append((code(str(one["benchmark"])), code(str(one["metric"])), f"{one['n']:,}", score, span))
    if lines:
        yield "## Evaluation\n\n" + table(["benchmark", "metric", "n", "score", "95 % interval"], lines)


def _licences(told: Told) -> Iterator[str]:
    lines = [("this model", code(told.licence))] if told.licence else []
    for _, parts in _parts(told):
        lines += [(code(name), code(licence) if licence else "not said") for name, licence in parts.items()]
    if lines:
        yield "## Licences\n\nAs they are told; nothing here grants more than they do.\n\n" + table(
            ["part", "licence"], lines
        )


def code(words: str) -> str:
    """A text that is not ours on one line of Markdown, as code; in a table too."""
    line = shown(" ".join(words.split()))[:300].replace("|", "\\|")
    if not line:
        return "–"
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    pad = " " if line[0] == "`" or line[-1] == "`" else ""
    return f"{ticks}{pad}{line}{pad}{ticks}"


def quoted(words: str) -> str:
    """A text of several lines, as code that is indented."""
    return "\n".join(f"    {shown(line)}" for line in words.strip().splitlines())


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = [":--"] * len(head)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))
