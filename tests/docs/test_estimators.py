import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jmsnas.cli import app
from jmsnas.estimators.regression.residual_models import MODELS, model_names
from jmsnas.estimators.regression.roofline import ROOFLINE_KINDS
from jmsnas.estimators.store.fit_record import SCHEMA_VERSION
from jmsnas.profiler.simulation.roofline import simulated_table
from jmsnas.profiler.table.latency_table import LatencyTable, RuntimeKey
from jmsnas.profiler.table.parquet import write_table
from jmsnas.space_file import load_space
from jmsnas.workspace import Workspace

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "estimators.md").read_text()


@pytest.mark.parametrize("command", re.findall(r"^(jmsnas [^#\n]*)", PAGE, re.MULTILINE))
def test_the_commands_of_the_page_have_the_options_they_use(command: str) -> None:
    words = command.split()
    out = CliRunner().invoke(app, [words[1], "--help"], env={"COLUMNS": "200"}).output
    assert all(option in out for option in words if option.startswith("--"))


def test_the_page_names_what_there_is() -> None:
    assert all(f"`{kind}`" in PAGE for kind in ROOFLINE_KINDS)
    assert all(model_names([name]) in PAGE for name in MODELS)
    assert f"| `schema_version` | {SCHEMA_VERSION};" in PAGE
    for file in re.findall(r"`([\w/]+\.py)", PAGE):
        assert (DOCS.parent / file).exists()
    for page in re.findall(r"\]\((\S+?\.md)", PAGE):
        assert (DOCS / page).exists()


def test_the_python_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = simulated_table("pi4", load_space("digits").blocks()[:60:6], [RuntimeKey()])
    rows = tuple(replace(row, device="local") for row in table.rows)
    write_table(
        Workspace(tmp_path / "jmsnas-workspace").table("local"),
        LatencyTable("local", rows, table.environments),
    )
    monkeypatch.chdir(tmp_path)
    found = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert found
    exec(compile(found[1], "estimators.md", "exec"), {})
    assert (tmp_path / "jmsnas-workspace" / "estimators" / "local" / RuntimeKey().label / "card.md").exists()
