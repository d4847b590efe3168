"""What an evaluation leaves for people and programs: results.json, results.md and results.html.

All have the scores of every benchmark that the folder has answers to by this model; the page shows the questions of
those that were asked for last.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from schemas import json_file
from train import log
from train.evaluate import page, runner, table
from train.evaluate.runner import Result

JSON, MARKDOWN, PAGE, REQUESTS = "results.json", "results.md", "results.html", "judge-requests.jsonl"


def content(model: dict[str, Any], of: Sequence[Result], out: Path) -> dict[str, Any]:
    """What results.json holds: these and what the folder has of the same model from earlier runs. `mean`: over
    benchmarks, once all have a score."""
    known = {result.benchmark.name: result.summary for result in of}
    for folder in runner.answered(out):
        if folder.name not in known:
            found = json_file.read(folder / runner.SUMMARY)
            if found["model"]["content"] == model["content"]:
                known[folder.name] = found
    summaries = [known[name] for name in sorted(known)]
    scores = [each["score"] for each in summaries]
    mean = sum(scores) / len(scores) if scores and None not in scores else None
    return {"model": model, "mean": mean, "benchmarks": summaries}


def write(out: Path, model: dict[str, Any], of: Sequence[Result]) -> list[Path]:
    """The files, those that people open last; of requests to a judge only while there are any."""
    filled = content(model, of, out)
    texts = {
        JSON: json.dumps(filled, indent=2, ensure_ascii=False) + "\n",
        REQUESTS: "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in runner.requests(of)),
        MARKDOWN: table.markdown(filled),
        PAGE: page.rendered(filled, of),
    }
    for name, text in texts.items():
        if text:
            log.replace(out / name, text)
        else:
            (out / name).unlink(missing_ok=True)
    return [out / name for name, text in texts.items() if text]
