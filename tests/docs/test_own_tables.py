import re
from pathlib import Path

import pytest
from synthetic_published import a_record, write_published
from typer.testing import CliRunner

from jmsnas.cli import app
from jmsnas.profiler.exchange.import_table import ImportRequest, import_table
from jmsnas.profiler.quality.read_published import read_published_records
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.profiler.table.parquet import read_table
from jmsnas.workspace import Workspace

PAGE = (Path(__file__).parents[2] / "docs" / "own_tables.md").read_text()


def example(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found[1]


def test_the_look_up_table_of_the_page_is_one(tmp_path: Path) -> None:
    (tmp_path / "lut.yaml").write_text(example("yaml"))
    found = import_table(tmp_path / "lut.yaml", ImportRequest("phone"), Workspace(tmp_path / "workspace"))
    blocks = [str(row.block) for row in found.table.rows]
    assert "mb_k5_e6 24->40 56x56 /2" in blocks and "head 320->1000 7x7 h1280" in blocks and not found.skipped


def test_every_field_that_is_read_is_described(tmp_path: Path) -> None:
    (record,) = read_published_records(write_published(tmp_path / "t.parquet", [a_record()]))
    described = re.findall(r"^\| (`[^|]*`) \|", PAGE, re.MULTILINE)
    names = {name for cell in described for name in re.findall(r"`(\w+)`", cell)}
    assert set(record) <= names


def test_the_python_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "board.csv").write_text(example("csv"))
    monkeypatch.chdir(tmp_path)
    exec(compile(example("python"), "own_tables.md", "exec"), {})
    assert (
        tmp_path / "jmsnas-workspace" / "estimators" / "my-board" / RuntimeKey().label / "card.md"
    ).exists()
    assert len(read_table(tmp_path / "jmsnas-workspace" / "tables" / "my-board.parquet").rows) == 5


@pytest.mark.parametrize("command", re.findall(r"^(jmsnas .*)$", PAGE, re.MULTILINE))
def test_the_commands_of_the_page_have_the_options_they_use(command: str) -> None:
    words = command.split()
    verb = words[1:3] if words[1] == "table" else words[1:2]
    out = CliRunner().invoke(app, [*verb, "--help"], env={"COLUMNS": "200"}).output
    assert all(option in out for option in words if option.startswith("--"))
