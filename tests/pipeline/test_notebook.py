"""The notebook runs on what the pipeline writes, and is committed without outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from pipeline.graph.context import Context
from pipeline.graph.stage import Step

NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.name)
def test_committed_without_outputs(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None


@pytest.mark.filterwarnings("ignore")  # the kernel's own sockets and loops, not ours
def test_look_around_runs(finished_run: tuple[Path, Context, list[Step]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESSERA_OUT", str(finished_run[1].out))
    notebook = nbformat.read(NOTEBOOKS / "01_look_around.ipynb", as_version=4)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(NOTEBOOKS)}}).execute()
    text = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    pictures = sum(
        "image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])
    )
    assert "the trainer sees the same pack" in text
    assert pictures == 5
