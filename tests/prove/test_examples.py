"""The scripts and the notebook of examples/ run from top to bottom, in order, in one folder.

`make test` runs the one that neither measures nor trains, and mypy reads all; `make prove` runs them all.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prove.proof import LEVEL

EXAMPLES = Path(__file__).parents[2] / "examples"
takes_minutes = pytest.mark.skipif(not LEVEL, reason="measures and trains for minutes: make prove")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("examples")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        pytest.param("01_profile.py", "U(.) is off by", marks=takes_minutes),
        ("02_split.py", "proven optimal"),
        pytest.param("03_search.py", "report: report.html", marks=takes_minutes),
        pytest.param("04_deploy.py", "written: deploy.json", marks=takes_minutes),
    ],
)
def test_script(script: str, expected: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script)], cwd=folder, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert expected in done.stdout


@takes_minutes
def test_notebook(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setitem(os.environ, "PYDEVD_DISABLE_FILE_VALIDATION", "1")
    notebook = nbformat.read(EXAMPLES / "jmsnas.ipynb", as_version=4)
    kept = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert kept and all(cell.execution_count for cell in kept), "the notebook's outputs are those of a run"
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
