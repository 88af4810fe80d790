"""The scripts and the notebook of examples/ run from top to bottom, in order, in one folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("examples")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("01_profile.py", "U(.) is off by"),
        ("02_split.py", "proven optimal"),
        ("03_search.py", "report: report.html"),
        ("04_deploy.py", "written: deploy.json"),
    ],
)
def test_script(script: str, expected: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script)], cwd=folder, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert expected in done.stdout


def test_notebook(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setitem(os.environ, "PYDEVD_DISABLE_FILE_VALIDATION", "1")
    notebook = nbformat.read(EXAMPLES / "jmsnas.ipynb", as_version=4)
    kept = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert kept and all(cell.execution_count for cell in kept), "the notebook's outputs are those of a run"
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
