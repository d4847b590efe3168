"""Installed, the commands work from any folder, and workers run what was installed, whatever lies in that folder."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from tests.pipeline.conftest import ROOT, Corpus, manifests

pytestmark = pytest.mark.slow

PACKAGES = ("schemas", "stages", "pipeline", "train")
HEAD = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""
LOOK = """
import os, sys, tempfile
from pipeline.graph.task import Done, Job, Task
from pipeline.run.ray_executor import RayExecutor

def look(job, writer):
    import pipeline, schemas, stages
    home = os.path.dirname(os.path.dirname(pipeline.__file__))
    return Done({}, {"seen": " ".join(["found", pipeline.__file__, *sorted(os.listdir(home))])})

executor = RayExecutor(sys.argv[1], 1)
tasks = iter([Task("", tempfile.mkdtemp(), 0, look, Job(amount=1))])
print(*(ended[1].facts["seen"] for ended in executor.run(lambda: next(tasks, None)) if ended))
executor.close()
"""


def done(*command: str | Path, cwd: Path, **environment: str) -> str:
    """What a command prints; it must succeed."""
    result = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, "PYTHONWARNINGS": "ignore", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a wheel is built from, so that nothing is left in the checkout."""
    copy = tmp_path_factory.mktemp("source")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in (*PACKAGES, "configs"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    offline = ("--no-deps", "--no-index", "--no-build-isolation")
    done(sys.executable, "-m", "pip", "wheel", source, *offline, "-w", out, cwd=out)
    return next(out.glob("tessera_vlm-*.whl"))


def environment(folder: Path, *what: str | Path) -> Path:
    """A virtual environment that sees this one's packages and has this distribution installed; its `bin`."""
    done(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    (place,) = folder.glob("lib/python*/site-packages")
    (place / "rest.pth").write_text("\n".join(site.getsitepackages()))
    offline = ("--no-deps", "--no-index", "--no-build-isolation")
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python")
    done(*pip, "install", *offline, *what, cwd=folder.parent)
    return folder / "bin"


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("installed") / "venv", wheel)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder of somebody else's, with packages of our names."""
    folder = tmp_path / "elsewhere"
    for name in PACKAGES:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"raise RuntimeError('the wrong {name}')")
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Ray that was started in a folder without our packages."""
    process = subprocess.Popen(
        [sys.executable, "-c", HEAD],
        cwd=tmp_path_factory.mktemp("head"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin and process.stdout
    yield process.stdout.readline().strip()
    process.communicate()


def test_a_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    code = {p.relative_to(ROOT).as_posix() for name in PACKAGES for p in (ROOT / name).rglob("*.py")}
    pages = {p.relative_to(ROOT).as_posix() for name in PACKAGES for p in (ROOT / name).rglob("*.j2")}
    configs = {f"pipeline/{p.relative_to(ROOT).as_posix()}" for p in (ROOT / "configs").rglob("*.yaml")}
    data = {p.relative_to(ROOT).as_posix() for p in (ROOT / "stages").rglob("*.yaml")}
    assert names == code | pages | configs | data and configs and data


@pytest.mark.parametrize("how", ["wheel", "editable"])
def test_the_commands_work_from_any_folder(
    how: str, installed: Path, source: Path, elsewhere: Path, corpus: Corpus, tmp_path: Path
) -> None:
    bin = installed if how == "wheel" else environment(tmp_path / "venv", "-e", source)
    assert done(bin / "tessera", "--help", cwd=elsewhere).startswith("usage: tessera ")
    assert done(bin / "tessera-train", "--help", cwd=elsewhere).startswith("usage: tessera-train ")
    sets = [word for name, place in corpus.places.items() for word in ("--set", f"run.locations.{name}={place}")]
    planned = done(bin / "tessera", "plan", "configs/quickstart.yaml", *sets, cwd=elsewhere)
    assert planned.count("to do") == 16


def test_a_run_from_any_folder_writes_the_same_bytes(
    installed: Path, elsewhere: Path, finished_run: tuple[Path, Context, list[Step]]
) -> None:
    path, context, steps = finished_run
    mapping = yaml.safe_load(path.read_text(encoding="utf-8"))
    (elsewhere / "recipe.yaml").write_text(yaml.safe_dump(mapping))
    done(installed / "tessera", "run", "recipe.yaml", "--out", "out", cwd=elsewhere)
    assert manifests(elsewhere / "out", steps) == manifests(context.out, steps)
    printed = done(installed / "tessera", "report", "recipe.yaml", "--out", "out", cwd=elsewhere)
    assert (elsewhere / "out" / "report.html").is_file() and "report.html" in printed


@pytest.mark.parametrize("how", ["wheel", "checkout"])
def test_a_cluster_gets_what_a_task_imports_and_nothing_else(
    how: str, installed: Path, cluster: str, elsewhere: Path, tmp_path: Path
) -> None:
    (tmp_path / "look.py").write_text(LOOK)
    python, path = (installed / "python", "") if how == "wheel" else (Path(sys.executable), str(ROOT))
    _, file, *names = done(python, tmp_path / "look.py", cluster, cwd=elsewhere, PYTHONPATH=path).split()
    assert names == ["pipeline", "schemas", "stages"]
    assert not file.startswith((str(ROOT), str(elsewhere), str(installed.parent)))
