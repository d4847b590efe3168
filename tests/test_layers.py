"""The house drawn from its imports: who may import whom, and what must never be imported where."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("schemas", "stages", "pipeline", "train")
MAY = {
    "schemas": {"schemas"},
    "stages": {"schemas", "stages"},
    "pipeline": {"schemas", "stages", "pipeline"},
    "train": {"schemas", "train", "stages.tiles", "stages.chat", "stages.images"},
}
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
