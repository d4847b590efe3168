"""The house drawn from its imports: who may import whom, and what must never be imported where; who names a stage."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.graph.stage import Stage
from pipeline.steps.table import STAGES

ROOT = Path(__file__).parent.parent
PACKAGES = ("schemas", "stages", "pipeline", "train")
MAY = {
    "schemas": {"schemas"},
    "stages": {"schemas", "stages"},
    "pipeline": {"schemas", "stages", "pipeline"},
    "train": {"schemas", "train", "stages.tiles", "stages.chat", "stages.chat_rules", "stages.images"},
}
# Inside `pipeline`, from the ground up. What runs a step knows the contract of a stage and none of the stages.
FLOORS = {
    "storage": set(),
    "net": {"storage"},
    "recipe": {"net"},
    "graph": {"recipe", "net", "storage"},
    "steps": {"graph", "net", "storage"},
    "run": {"graph", "storage"},
    "commands": {"steps", "graph", "recipe", "storage"},
    "publish": {"commands", "steps", "graph", "net", "storage"},
    "cli": {"publish", "commands", "run", "steps", "graph", "recipe", "net", "storage"},
    "__main__": {"cli"},
    "quickstart": {"cli", "commands", "steps", "graph", "recipe"},
}
# The sections of a recipe are named like the stages that they ask for: here they are declared, and written down.
SECTIONS = {"pipeline/recipe/types.py", "pipeline/commands/probe.py"}
# Not at import time of these packages: `import train` works without Ray, stages load torch and models only when called.
HEAVY = {
    "schemas": {"ray", "torch", "transformers", "datasets", "fasttext", "PIL"},
    "stages": {"ray", "torch", "transformers", "datasets", "fasttext", "scipy", "imagehash"},
    "pipeline": {"torch", "datasets", "ray"},
    "train": {"ray", "datasets", "fasttext", "imagehash"},
}


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_lies_below_them(package: str) -> None:
    for path in files(package):
        for name in imports(path):
            if name.split(".")[0] in PACKAGES:
                assert any(name == may or name.startswith(may + ".") for may in MAY[package]), f"{path} imports {name}"


def floor(path: Path) -> str:
    return path.relative_to(ROOT / "pipeline").parts[0].removesuffix(".py")


def test_every_floor_of_the_pipeline_stands_on_those_below_it() -> None:
    known = list(FLOORS)
    for number, below in enumerate(FLOORS.values()):
        assert below <= set(known[:number])
    for path in files("pipeline"):
        if floor(path) == "__init__":
            continue
        for name in imports(path):
            if name.startswith("pipeline."):
                other = name.split(".")[1]
                assert other in {floor(path)} | FLOORS[floor(path)], f"{path} imports {name}"


def rows() -> dict[str, str]:
    """The file of each stage that has one of its own -> its name."""
    found = {}
    for path in sorted((ROOT / "pipeline" / "steps").glob("*.py")):
        module = importlib.import_module(f"pipeline.steps.{path.stem}")
        for name in [value.name for value in vars(module).values() if isinstance(value, Stage)]:
            found[path.relative_to(ROOT).as_posix()] = name
    del found["pipeline/steps/table.py"]
    return found


def texts(tree: ast.AST) -> Iterator[str]:
    """Every text of a module that is no docstring; of an f-string its pieces."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    first = [node.body[0] for node in ast.walk(tree) if isinstance(node, kinds) and node.body]
    docstrings = {id(node.value) for node in first if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def test_nobody_names_a_stage_but_the_file_it_stands_in() -> None:
    """`ingest`, `ingest.image_missing`, `02-ingest-fine` as a text of code: what must be known, the row is asked."""
    own, named = rows(), set()
    alone = {
        "fetch_tokenizer",
        "hash",
        "download",
        "fetch_images",
        "ingest",
        "compare",
        "dedupe",
        "mixture",
        "pretokenise",
    }
    assert set(own.values()) == alone
    for path in files("pipeline"):
        where = path.relative_to(ROOT).as_posix()
        if where == "pipeline/steps/table.py" or floor(path) == "quickstart":
            continue
        for text in texts(ast.parse(path.read_text(encoding="utf-8"))):
            found = re.match(rf"(\d+-)?({'|'.join(STAGES)})([.-]|$)", text)
            if found and found[2] != own.get(where):
                named.add(where)
                assert where in SECTIONS, f"{where} names the stage {found[2]}: {text!r}"
    assert named == SECTIONS


def test_nobody_asks_whether_a_step_is_of_a_certain_row() -> None:
    """The rows are imported by the table alone, so nothing can be compared with one."""
    modules = {where.removesuffix(".py").replace("/", "."): name for where, name in rows().items()}
    for path in files("pipeline"):
        for name in imports(path):
            module, _, what = name.rpartition(".")
            if module in modules and isinstance(getattr(importlib.import_module(module), what, None), Stage):
                assert path.name == "table.py", f"{path} imports {name}"


def test_ray_lives_in_one_file() -> None:
    users = {
        p.relative_to(ROOT).as_posix()
        for x in PACKAGES
        for p in files(x)
        if any(n.split(".")[0] == "ray" for n in imports(p))
    }
    assert users == {"pipeline/run/ray_executor.py"}


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_loads_nothing_heavy(package: str) -> None:
    modules = [
        ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for p in files(package)
        if p.name != "__main__.py" and "quickstart" not in p.parts
    ]
    script = f"import sys, {', '.join(modules)}; print(sorted({HEAVY[package]!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_module_is_a_drawer() -> None:
    names = {p.stem for x in PACKAGES for p in files(x)} | {p.parent.name for x in PACKAGES for p in files(x)}
    assert not names & {"utils", "common", "helpers", "manager", "misc"}


def test_every_module_opens_with_its_idea() -> None:
    bare = [
        str(p) for x in PACKAGES for p in files(x) if not ast.get_docstring(ast.parse(p.read_text(encoding="utf-8")))
    ]
    assert bare == []
