"""The Python files beside exported weights, put together from modules of ours: they need nothing of ours then.

A file is a module of train/export/remote/ with, before it, those that it imports from this project, one after the other
and without these imports. In a processing file the module of the tile scheme goes before that, so the very source that
cut the tiles of training cuts those of an export.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from stages.tiles.scheme import Scheme
from train.export.failure import ExportError

_OURS = ("schemas", "stages", "pipeline", "train")
_PROCESSING = "train.export.remote.processing"
_FIRST = '"""{}"""\n\nfrom __future__ import annotations\n'
_TILES, _ORDERED = "TILES: Any = Scheme  # the exporter names the scheme here", "ORDERED: bool = False"


def modelling(name: str) -> str:
    """The modelling file of a kind of model."""
    return _together([*_with_imports(f"train.export.remote.modeling_{name}")])


def processing(scheme: Scheme, ordered: bool) -> str:
    """The processing file for a scheme; `ordered`: whether the model wants the order of features."""
    text = _together([*_with_imports(type(scheme).__module__), *_with_imports(_PROCESSING)])
    text = text.replace(_TILES, f"TILES: Any = {type(scheme).__name__}")
    return text.replace(_ORDERED, f"ORDERED: bool = {ordered}")


def _together(modules: list[str]) -> str:
    """Modules as one file under the docstring of the last. Raises ExportError where one name is of two things."""
    modules = [*dict.fromkeys(modules)]
    bodies = [_body(_source(module)) for module in modules]
    _refuse_twice(bodies)
    docstring = ast.get_docstring(ast.parse(_source(modules[-1])), clean=False)
    return _FIRST.format(docstring) + "\n" + "\n\n".join(bodies).strip() + "\n"


def _with_imports(module: str) -> Iterator[str]:
    """What a module imports of ours, each before what needs it, and the module."""
    for node in ast.parse(_source(module)).body:
        if _is_ours(node):
            assert isinstance(node, ast.ImportFrom) and node.module
            yield from _with_imports(node.module)
    yield module


def _is_ours(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in _OURS


def _body(source: str) -> str:
    """A module without its docstring and its imports of ours and of the future."""
    tree = ast.parse(source)
    lines = source.splitlines()
    gone = [node for node in tree.body if _is_ours(node) or _is_future(node)]
    if ast.get_docstring(tree) is not None:
        gone.append(tree.body[0])
    for node in gone:
        assert node.end_lineno is not None
        lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    return "\n".join(lines).strip()


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _refuse_twice(bodies: list[str]) -> None:
    known: set[str] = set()
    for body in bodies:
        names = {name for node in ast.parse(body).body for name in _named(node)}
        if twice := sorted(known & names):
            raise ExportError(f"two modules of the tile scheme name something {twice[0]}; rename one of the two")
        known |= names


def _named(node: ast.stmt) -> Iterator[str]:
    """The names that a statement of a module gives to something, imports aside."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        for target in ast.walk(node):
            if isinstance(target, ast.Name) and isinstance(target.ctx, ast.Store):
                yield target.id


def _source(module: str) -> str:
    found = importlib.util.find_spec(module)
    assert found is not None and found.origin is not None
    return Path(found.origin).read_text(encoding="utf-8")
