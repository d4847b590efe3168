"""write a model as a folder that plain transformers loads

What is written is proven before it is there: loaded by itself, it has the same tokens, pixels and logits.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from train.export import adapter, card, folder, origin, proof, weights
from train.export.failure import ExportError
from train.export.folder import How
from train.export.push import Hub
from train.inference.opened import opened

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_SIZE = re.compile(r"(\d+)\s*([KMG]B|)", re.IGNORECASE)


def arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("model", metavar="MODEL", help="a training config, the folder of a run, a checkpoint or an export")
    sub.add_argument("--out", type=Path, metavar="FOLDER", help="a new folder; none to --push an export as it is")
    sub.add_argument("--dtype", choices=[*weights.DTYPES], default="bf16", help="of the weights; default bf16")
    sub.add_argument("--shard-size", type=_size, default="5GB", metavar="SIZE", help="of a file; default 5GB")
    sub.add_argument("--adapter", action="store_true", help="the adapters alone, as peft reads them")
    sub.add_argument("--report", type=Path, metavar="report.json", help="the pipeline's, for the card")
    sub.add_argument("--evaluation", type=Path, metavar="DIR", help="results of `evaluate`, for the card")
    sub.add_argument(
        "--card", type=Path, metavar="FILE.yaml", help="what the card can't know: licence, base models ..."
    )
    sub.add_argument("--push", metavar="OWNER/NAME", help="send it to this repository on the Hub, too")
    sub.add_argument("--private", action="store_true", help="the repository of --push is private")
    sub.add_argument(
        "--check",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="load it by itself and compare before it is there; default yes",
    )


def run(options: argparse.Namespace) -> None:
    if options.adapter:
        _refuse_beside_adapter(options)
    hub = Hub(options.push, options.private) if options.push else None
    if options.adapter:
        adapter.write(_out(options), options.model)
        print(f"adapters: {options.out}")
        return
    if options.out or hub is None:
        print(f"export: {_out(options)}; {_write(options)}")
    if hub is not None:
        print(f"pushed: {hub.push(options.out or Path(options.model))}")


def _refuse_beside_adapter(options: argparse.Namespace) -> None:
    """Nothing that is asked for is passed over."""
    for name in ("push", "card", "report", "evaluation"):
        if getattr(options, name):
            raise ExportError(f"--{name}: is for a whole export; leave it out, or leave out --adapter")


def _write(options: argparse.Namespace) -> str:
    """What the check found."""
    of = opened(options.model, "cpu", weights.DTYPES["fp32"])
    whence = origin.told(of)
    known = card.read_known(of, whence.get("run"), options.report, options.evaluation)
    text = card.text(of, card.read_told(options.card), known, options.out.name)
    said = ["not checked"]

    def prove(draft: Path) -> None:
        if options.check:
            lost = proof.prove(draft, of, rounds=options.dtype == "bf16")
            said[0] = f"checked by transformers alone; rounding moves logits by {lost:.1e} of the largest"

    folder.write(options.out, of, whence, How(weights.DTYPES[options.dtype], options.shard_size), text, prove)
    return said[0]


def _out(options: argparse.Namespace) -> Path:
    if options.out is None:
        raise ExportError("--out: no folder to write to; name a new one")
    out: Path = options.out
    return out


def _size(text: str) -> int:
    found = _SIZE.fullmatch(text.strip())
    if found is None or int(found[1]) < 1:
        raise argparse.ArgumentTypeError(f"got {text}, wanted a size such as 5GB or 500MB")
    return int(found[1]) * _UNITS[found[2].upper()]
