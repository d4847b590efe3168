"""answer questions with the newest checkpoint"""

from __future__ import annotations

import argparse
from pathlib import Path

from train import checkpoint, config, run_folder
from train.checkpoint import CheckpointError
from train.commands.numbers import positive
from train.config import Config
from train.evaluate import questions
from train.evaluate.questions import QuestionError, Row
from train.generate import Answerer


def arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("config", type=Path, metavar="CONFIG")
    what = sub.add_mutually_exclusive_group()
    what.add_argument("--questions", type=Path, metavar="FILE.jsonl", help="rows of image, question, answer?, kind?")
    what.add_argument("--question", metavar="TEXT", help="one question")
    sub.add_argument("--image", type=Path, action="append", default=[], help="an image of --question; may be repeated")
    sub.add_argument("--limit", type=positive, metavar="N", help="only the first N questions")
    sub.add_argument("--out", type=Path, metavar="FILE", help="predictions; default: predictions.jsonl in run.out")


def run(options: argparse.Namespace) -> None:
    of = config.load(options.config)
    folder = _newest(of)
    rows, base = _rows(options)
    out = options.out or Path(of.run.out) / "predictions.jsonl"
    questions.check_place(out)
    answers = Answerer(folder).answer([questions.prompt(row, base) for row in rows])
    scored = questions.score(rows, answers)
    summary = questions.summarise(scored) | {"checkpoint": folder.name}
    questions.show(scored, summary)
    beside = questions.write(out, scored, summary)
    print(f"answers: {out}; scores: {beside}")


def _newest(of: Config) -> Path:
    found = run_folder.newest(Path(of.run.out))
    if found is None:
        raise CheckpointError(f"{of.run.out}: no checkpoint; run `python -m train fit` with this config first")
    folder, record = found
    # The shards may be gone by now, and so the first weights, and answering does not read them.
    theirs = record.identity
    data = theirs["data"]
    ours = checkpoint.identity(of, data["shards"], theirs.get("weights"), data.get("leave_out"))
    checkpoint.refuse_other(folder, theirs, ours)
    return folder


def _rows(options: argparse.Namespace) -> tuple[list[Row], Path]:
    if options.questions:
        if options.image:
            raise QuestionError("--image goes with --question; the rows of --questions name their own images")
        return questions.read(options.questions, options.limit), options.questions.parent
    if not options.question:
        raise QuestionError(
            "nothing to answer: give --questions FILE.jsonl, or --question TEXT with or without --image"
        )
    return [{"image": [str(path) for path in options.image], "question": options.question}], Path()
