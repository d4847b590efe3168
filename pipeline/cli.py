"""`python -m pipeline ...`: the commands, their arguments and their exit codes.

0 done; 1 a step failed or something checked is wrong; 2 the recipe or the command line is wrong; 130 interrupted;
141 nobody reads the output any more.
Whatever the user can mend is one line on stderr without a traceback; a traceback means a bug in this program.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from pipeline.commands import funnel, plan, probe, rejects, report, show, sketch, verify
from pipeline.commands.census import command as census
from pipeline.commands.whatif import command as whatif
from pipeline.graph.build import build, foresee
from pipeline.graph.content import Content, check_places
from pipeline.graph.context import Context
from pipeline.graph.errors import MissingInput, StepError
from pipeline.graph.stage import Step
from pipeline.net.bucket import BucketError
from pipeline.net.hub import HubError
from pipeline.publish import publication, push
from pipeline.publish import publish as publishing
from pipeline.recipe.load import load
from pipeline.run import runner
from pipeline.run.ray_executor import RayExecutor
from pipeline.steps.table import STAGES
from pipeline.storage.commit import OutputBusy, lock
from schemas.manifest import MANIFEST, ManifestError
from schemas.shown import shown
from schemas.strict import RecipeError
from stages.chat import ChatError
from stages.sources.records.streams import DataError

# Where writing fails through no fault of this program: a full or read-only disk, a quota, a folder of somebody else's
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    try:
        given = _parser().parse_args(arguments)
        command: Callable[[argparse.Namespace], int] = given.command
        return command(given)
    except (RecipeError, MissingInput, OutputBusy) as error:
        return _fail(error, 2)
    except (StepError, HubError, BucketError, ManifestError, DataError, ChatError) as error:
        return _fail(error, 1)
    except BrokenPipeError:
        # whoever read the output has seen enough (`| head`); the interpreter must not flush to them at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        place = error.filename or "the output folder"
        return _fail(f"{place}: {error.strerror}; make room or give another --out, then run again to go on", 1)
    except KeyboardInterrupt:
        print("\ninterrupted; finished parts stay, the same command goes on from there", file=sys.stderr)
        return 130


def _fail(error: Exception | str, code: int) -> int:
    print(f"error: {shown(' '.join(str(error).split()))}", file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are RecipeErrors: one line."""

    def error(self, message: str) -> NoReturn:
        raise RecipeError(f"{message}; see {self.prog} --help")


def _name() -> str:
    return "tessera" if Path(sys.argv[0]).name == "tessera" else "python -m pipeline"


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog=_name(), description="Raw image-text datasets to training-ready shards.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    common = _Parser(add_help=False)
    common.add_argument("recipe", help="the YAML recipe")
    common.add_argument("--out", help="output folder, instead of run.out")
    common.add_argument("--set", action="append", default=[], metavar="run.KEY=VALUE", dest="sets")
    common.add_argument("--address", help="a Ray cluster's address, instead of this machine")

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, parents=[common], help=text, description=text)
        sub.set_defaults(command=command)
        return sub

    add("run", _run, "every stage in order; finished steps are skipped")
    for stage in STAGES:
        add(stage, _run, f"only {stage}; says what to run first if its input is missing").set_defaults(stage=stage)
    add("plan", _plan, "what would run: steps, folders, done or to do, and why")
    add("report", _report, "write report.html and report.json")
    add("show", _show, "one sample: origin, messages, images, verdicts, tiles, tokens").add_argument("sample")
    table = add("rejects", _rejects, "every rejected row of every source as one table: which, why, what was seen")
    table.add_argument("--save", type=Path, metavar="FILE.parquet", help="write it there instead of to the terminal")
    small = add("sketch-benchmarks", _sketch, sketch.HELP)
    small.add_argument("--to", type=Path, required=True, metavar="FILE.parquet", help="where it is to lie")
    census.arguments(commands.add_parser("census", help=census.HELP, description=census.HELP))
    whatif.arguments(commands.add_parser("whatif", help=whatif.HELP, description=whatif.HELP))
    give = add(
        "publish", _publish, "the kept samples of a finished recipe as a dataset folder that the Hub would accept"
    )
    give.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="where it is to lie; made whole or not")
    give.add_argument("--file-bytes", type=int, default=publishing.FILE_BYTES, metavar="N", help="of one parquet file")
    send = commands.add_parser("push", help="upload a published folder to a dataset repository of the Hub")
    send.add_argument("folder", type=Path)
    send.add_argument("--repo", required=True, metavar="owner/name")
    send.add_argument("--private", action="store_true", help="nobody else sees a repository that this makes")
    send.add_argument("--revision", help="a branch, instead of main; made if it isn't there")
    send.set_defaults(command=_push)
    check = commands.add_parser("verify", help="check folders of steps, all of an output folder, or published folders")
    check.add_argument("paths", type=Path, nargs="+", metavar="folder")
    check.add_argument("--sources", action="store_true", help="hash the sources' files again too, where they lie")
    check.set_defaults(command=_verify)
    look = commands.add_parser("probe", help="look at unknown data and print a recipe for it")
    look.add_argument("path", type=Path)
    look.set_defaults(command=_probe)
    return parser


def _open(given: argparse.Namespace) -> tuple[Context, list[Step]]:
    loaded = load(given.recipe, given.out, given.address, given.sets)
    context = Context(loaded, Content(loaded))
    return context, build(context, STAGES)


def _open_shards(given: argparse.Namespace, command: str) -> tuple[Context, list[Step]]:
    """The same for a command about what a recipe's sources become."""
    context, steps = _open(given)
    context.recipe.need_sources(command)
    return context, steps


def _run(given: argparse.Namespace) -> int:
    started = time.monotonic()
    loaded = load(given.recipe, given.out, given.address, given.sets)
    check_places(loaded)
    executor = RayExecutor(loaded.run.address, loaded.run.workers)
    alone: str | None = getattr(given, "stage", None)
    if alone is None and not any(loaded.out.glob(f"*/{MANIFEST}")):
        executor.begin()  # nothing was ever finished, so there is something to do: Ray starts while files are listed
    try:
        context = Context(loaded, Content(loaded))
        steps = build(context, STAGES)
        chosen = [step for step in steps if alone in (None, step.stage.name)]
        if alone is not None and not chosen:
            why = STAGES[alone].absent
            raise RecipeError(f"{alone}: the recipe has {why}, so there is nothing to run; see README.md")
        foresee(chosen, context)
        with lock(context.out):
            context.content.save()
            done = runner.run(chosen, context, executor, again=alone is not None)
    finally:
        executor.close()
    seconds = time.monotonic() - started
    if alone is None:
        funnel.show(funnel.funnel(steps, context))
    before = f" ({len(chosen) - done} more were finished before)" if done < len(chosen) else ""
    if done:
        print(f"{done} {'step' if done == 1 else 'steps'} done in {seconds:.1f} s{before}")
    else:
        print(f"nothing to do: {'the step is' if len(chosen) == 1 else f'all {len(chosen)} steps are'} finished")
    return 0


def _plan(given: argparse.Namespace) -> int:
    context, steps = _open(given)
    plan.show(steps, context)
    foresee(steps, context)
    return 0


def _report(given: argparse.Namespace) -> int:
    context, steps = _open_shards(given, "report")
    for path in report.write(steps, context):
        print(shown(str(path)))
    return 0


def _show(given: argparse.Namespace) -> int:
    context, steps = _open_shards(given, "show")
    show.show(steps, context, given.sample)
    return 0


def _rejects(given: argparse.Namespace) -> int:
    context, steps = _open(given)
    if given.save is None:
        rejects.show(steps, context)
    else:
        print(f"{shown(str(given.save))}: {rejects.save(steps, context, given.save):,} rejects")
    return 0


def _sketch(given: argparse.Namespace) -> int:
    sketch.check(given.to)
    context, steps = _open_shards(given, "sketch-benchmarks")
    executor = RayExecutor(context.recipe.run.address, context.recipe.run.workers)
    chosen = sketch.needed(steps)
    try:
        foresee(chosen, context)
        with lock(context.out):
            context.content.save()
            runner.run(chosen, context, executor)
    finally:
        executor.close()
    print(f"{shown(str(given.to))}: sketches of {sketch.save(steps, context, given.to):,} samples of benchmarks")
    return 0


def _publish(given: argparse.Namespace) -> int:
    context, steps = _open_shards(given, "publish")
    made = publishing.publish(steps, context, Path(given.recipe), given.to, given.file_bytes)
    print(publishing.said(made, given.to))
    return 0


def _push(given: argparse.Namespace) -> int:
    print(push.push(given.folder, given.repo, given.private, given.revision))
    return 0


def _probe(given: argparse.Namespace) -> int:
    print(probe.probe(given.path), end="")
    return 0


def _verify(given: argparse.Namespace) -> int:
    checked, faults = {}, 0
    published = {path for path in given.paths if publication.is_one(path)}
    folders = [found for path in given.paths for found in ([path] if path in published else verify.folders(path))]
    for path in folders:
        try:
            if path in published:
                print(f"{publishing.said(publication.check(path), path)}; sound")
                continue
            checked[path] = manifest = verify.check(path)
        except ManifestError as error:
            faults += 1
            print(shown(f"error: {error}"), file=sys.stderr)
            continue
        counts = manifest.counts
        ledger = f"{counts.rows_in:,} in, {counts.kept:,} kept"
        print(f"{shown(str(path))}: sound. {manifest.stage}, {len(manifest.files)} files, {ledger}")
    for path in [found for given_path in given.paths for found in verify.unfinished(given_path)]:
        print(f"{shown(str(path))}: not finished; run its recipe again to go on")
    for line in verify.sources(checked) if given.sources and checked else ():
        print(shown(line))
    return 1 if faults else 0
