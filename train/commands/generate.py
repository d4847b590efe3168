"""answer one question, a file of conversations, or a person who chats"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from schemas.strict import RecipeError
from train.commands.numbers import decimal, positive, whole
from train.inference import asked
from train.inference.answerer import SLOTS, Answerer, Upstream
from train.inference.batch import Batch
from train.inference.chat import chat, finished, print_channels, printed
from train.inference.conversation import Conversation, Sampling

_TOLD = 5  # of the reasons of failed rows, on the terminal


def arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("model", metavar="MODEL", help="a config, a run, a checkpoint, an exported or an upstream folder")
    sub.add_argument("question", nargs="?", metavar="QUESTION", help="one question; its answer is printed")
    what = sub.add_mutually_exclusive_group()
    what.add_argument(
        "--conversations", type=Path, metavar="FILE.jsonl", help="rows of messages, or of images and question"
    )
    what.add_argument(
        "--chat", action="store_true", help="talk; /image PATH shows an image, /new begins anew, end of input ends"
    )
    sub.add_argument(
        "--image", type=Path, action="append", default=[], help="it comes before QUESTION; may be repeated"
    )
    sub.add_argument("--out", type=Path, metavar="FILE.jsonl", help="where answers to --conversations go")
    sub.add_argument("--max-new-tokens", type=positive, default=256, metavar="N", help="of one answer; default: 256")
    sub.add_argument("--temperature", type=_temperature, default=0.0, metavar="T", help="default: 0, the likeliest")
    sub.add_argument("--top-p", type=_share, default=1.0, metavar="P", help="draw from the likeliest that have so much")
    sub.add_argument("--seed", type=_seed, default=0, metavar="N", help="what is drawn depends on it; default: 0")
    sub.add_argument("--slots", type=positive, default=SLOTS, metavar="N", help=f"side by side; default: {SLOTS}")
    sub.add_argument("--trust-remote-code", action="store_true", help="run code that comes with an upstream model")
    sub.add_argument("--show-channels", action="store_true", help="what the model says beside its answer, too")


def run(options: argparse.Namespace) -> None:
    _check(options)
    code = options.trust_remote_code
    sampling = Sampling(options.max_new_tokens, options.temperature, options.top_p, options.seed)
    if options.question is not None:
        asking = asked.question(options.question, options.image)
        _one(Answerer.open(options.model, 1, code), asking, sampling, options.show_channels)
    elif options.chat:
        chat(Answerer.open(options.model, 1, code), sampling, options.show_channels, sys.stdin)
    else:
        _batch(Answerer.open(options.model, options.slots, code), sampling, options)


def _check(options: argparse.Namespace) -> None:
    if (options.question is not None) + options.chat + (options.conversations is not None) != 1:
        raise RecipeError(
            "nothing to answer: give one of QUESTION, --conversations FILE.jsonl --out FILE.jsonl, or --chat"
            if options.question is None
            else "QUESTION is one question; leave it out or leave out --chat and --conversations"
        )
    if options.image and options.question is None:
        raise RecipeError("--image goes with QUESTION; the rows of a file name their own images")
    if (options.conversations is None) != (options.out is None):
        raise RecipeError("--out and --conversations go together; say which file is answered, and where the answers go")


def _one(answerer: Answerer | Upstream, conversation: Conversation, sampling: Sampling, channels: bool) -> None:
    told = answerer.stream(conversation, sampling)
    if not channels:
        printed(told)
        return
    answer = finished(told)
    print_channels(answer)
    print(answer.text)


def _batch(answerer: Answerer | Upstream, sampling: Sampling, options: argparse.Namespace) -> None:
    batch = Batch(options.conversations, options.out, answerer.identity, sampling, options.show_channels)
    done = batch.run(answerer)
    before = f", {done.before:,} of them before" if done.before else ""
    print(f"answers: {options.out}; {done.lines:,} rows{before}, {done.failed:,} failed")
    for error, times in done.errors.most_common(_TOLD):
        print(f"failed: {times:,} x {error}")


def _temperature(text: str) -> float:
    number = decimal(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"got {text}, wanted a number, 0 or more")
    return number


def _seed(text: str) -> int:
    number = whole(text)
    if not -(2**63) <= number < 2**63:
        raise argparse.ArgumentTypeError(f"got {text}, wanted a whole number of 64 bits")
    return number


def _share(text: str) -> float:
    number = decimal(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"got {text}, wanted a number above 0 and up to 1")
    return number
