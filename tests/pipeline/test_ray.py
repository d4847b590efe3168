"""The same steps on a real Ray: same bytes as in one process, errors as sentences, refusal where it can't fit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.graph.context import Context
from pipeline.graph.errors import StepError
from pipeline.graph.stage import Step
from pipeline.run.ray_executor import RayExecutor
from tests.pipeline.conftest import ROOT, MakeRecipe, manifests

Finished = tuple[Path, Context, list[Step]]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_run_on_ray_writes_the_bytes_of_a_run_in_one_process(finished_run: Finished, make_recipe: MakeRecipe) -> None:
    _, context, steps = finished_run
    path = make_recipe()
    done = command("run", str(path))
    assert done.returncode == 0, done.stderr
    assert manifests(path.parent / "out", steps) == manifests(context.out, steps)


def test_more_workers_than_cpus_is_refused_with_what_is_needed(make_recipe: MakeRecipe) -> None:
    done = command("run", str(make_recipe()), "--set", "run.workers=1000")
    assert done.returncode == 1
    assert "1000 CPUs and this machine has" in done.stderr
    assert done.stderr.strip().count("\n") == 0


def test_an_unreachable_cluster_is_a_sentence() -> None:
    script = (
        "from pipeline.run.ray_executor import RayExecutor\n"
        "from pipeline.graph.errors import StepError\n"
        "try: list(RayExecutor('127.0.0.1:1', None).run(lambda: 1))\n"
        "except StepError as error: print('said', error)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "said Ray at 127.0.0.1:1 can't be reached" in done.stdout, done.stderr


def test_nothing_to_do_needs_no_ray() -> None:
    assert list(RayExecutor("127.0.0.1:1", None).run(lambda: None)) == []


def test_a_ray_that_cannot_start_here_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no shared memory\nand forty lines of logs")

    monkeypatch.setattr("ray._private.node.Node", refuse)
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "")  # put back afterwards, whatever the executor sets
    with pytest.raises(StepError, match=r"can't be started on this machine: no shared memory$"):
        next(RayExecutor(None, 1).run(lambda: 1))  # type: ignore[arg-type,return-value]
