"""The Python files of an export: they import nothing of ours and hold the very source that cut the tiles."""

from __future__ import annotations

import ast
import inspect
import io
import sys
import types
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_exports import EXPORTS
from tiny_models import picture

from stages.images.rules import open_rgb
from stages.tiles import jina, scheme
from train.export import code
from train.export.failure import ExportError
from train.export.remote import processing

FILES = {name: code.processing(tiles, False) for name, tiles in EXPORTS.items()}
FILES |= {name: code.modelling(name) for name in ("llmjpvl", "jvlm")}


@pytest.mark.parametrize("name", FILES)
def test_a_file_imports_nothing_of_ours_and_names_everything_once(name):
    tree = ast.parse(FILES[name])
    assert ast.get_docstring(tree)
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {getattr(node, "module", None) or node.names[0].name for node in found}
    assert not {module.partition(".")[0] for module in modules} & {"schemas", "stages", "pipeline", "train"}
    names = [node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    assert len(names) == len(set(names))


def test_it_holds_the_source_of_the_scheme():
    text = code.processing(jina.Jina(), True)
    for part in (jina.Jina, jina._bilinear, scheme.Scheme, scheme.framed):
        assert inspect.getsource(part) in text
    assert "TILES: Any = Jina\n" in text and "ORDERED: bool = True" in text


def test_a_file_by_itself_cuts_what_the_scheme_cuts(monkeypatch):
    alone: Any = types.ModuleType("alone")
    monkeypatch.setitem(sys.modules, "alone", alone)  # where its dataclasses look themselves up
    exec(compile(FILES["internvl_siglip"], "alone.py", "exec"), alone.__dict__)
    theirs, ours = alone.InternVL(tile=16, patch=4, merge=2, max_tiles=4), EXPORTS["internvl_siglip"]
    image = open_rgb(picture(3, 60, 20))
    assert (theirs.cut(image, theirs.grid(60, 20)) == ours.cut(image, ours.grid(60, 20))).all()


NOISE = np.random.default_rng(1)
PICTURES = {
    "16 bit": ("PNG", Image.fromarray(NOISE.integers(0, 65535, (9, 7), np.uint16))),
    "whole numbers": ("TIFF", Image.fromarray(NOISE.integers(0, 70000, (9, 7)).astype(np.int32))),
    "shares": ("TIFF", Image.fromarray(NOISE.random((9, 7)).astype(np.float32))),
    "floats": ("TIFF", Image.fromarray(300 * NOISE.random((9, 7)).astype(np.float32))),
    "grey and alpha": ("PNG", Image.fromarray(NOISE.integers(0, 255, (9, 7, 2), np.uint8), "LA")),
    "palette": ("GIF", Image.fromarray(NOISE.integers(0, 255, (9, 7, 3), np.uint8)).convert("P")),
    "CMYK": ("TIFF", Image.fromarray(NOISE.integers(0, 255, (9, 7, 4), np.uint8), "CMYK")),
}


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
def test_a_picture_becomes_rgb_as_it_did_for_training(kind):
    form, picture_of = PICTURES[kind]
    picture_of.save(data := io.BytesIO(), form)
    found = processing._upright(Image.open(data))
    assert found.mode == "RGB" and found.tobytes() == open_rgb(data.getvalue()).tobytes()


def test_two_things_of_one_name_are_refused():
    with pytest.raises(ExportError, match="name something same; rename one"):
        code._refuse_twice(["def same(): ...\n", "same = 3\n"])
