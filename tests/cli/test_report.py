import json
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from jmsnas.cli import app


def typed(workspace: Path, *words: str) -> tuple[int, str, str]:
    found = CliRunner().invoke(app, ["report", "--workspace", str(workspace), *words])
    assert "Traceback" not in found.output
    return found.exit_code, found.stdout, found.stderr


def test_by_name_and_the_newest_give_the_same_page(run: Path) -> None:
    workspace = run.parents[1]
    code, out, _ = typed(workspace, "short")
    assert (code, out) == (0, f"Report: {run / 'report.html'}\n")
    first = (run / "report.html").read_bytes()
    code, out, _ = typed(workspace, "--json")
    (found,) = json.loads(out)["reports"]
    assert (code, found["run"], found["page"]) == (0, str(run), str(run / "report.html"))
    assert [Path(path).name for path in found["pictures"]] == [
        "compare.png",
        "estimators.png",
        "network.png",
        "search.png",
        "where_split_pays.png",
    ]
    assert (run / "report.html").read_bytes() == first


def test_bad_input_is_one_line_and_exit_2(run: Path, tmp_path: Path) -> None:
    code, out, err = typed(tmp_path)
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert "no finished run in" in err and "Run: jmsnas search --topology chain" in err
    code, _, err = typed(run.parents[1], "nowhere")
    assert (
        code == 2
        and "no finished run 'nowhere' in" in err
        and "expected short" in err
        and err.count("\n") == 1
    )
    code, _, err = typed(run.parents[1], "No Name")
    assert code == 2 and "run name 'No Name' must be 1 to 64" in err
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "result.json").write_text('{"schema_version": 2}')
    (tmp_path / "broken" / "config.json").write_text('{"space": "", "dataset": "", "topology": ""}')
    (tmp_path / "broken" / "log.jsonl").write_text("")
    code, _, err = typed(tmp_path, str(tmp_path / "broken"))
    assert code == 2 and "result.json is damaged, or not as expected (Object missing" in err
    assert err.count("\n") == 1
    (tmp_path / "broken" / "result.json").write_text('{"schema_version": 7}')
    code, _, err = typed(tmp_path, str(tmp_path / "broken"))
    assert code == 2 and "has schema 7, this version reads 2" in err
    (tmp_path / "broken" / "result.json").write_bytes(b"\xff\xfe")
    code, _, err = typed(tmp_path, str(tmp_path / "broken"))
    assert code == 2 and "is damaged, or not as expected" in err and err.count("\n") == 1


def test_help_teaches_and_loads_nothing_heavy() -> None:
    assert "jmsnas report first second" in CliRunner().invoke(app, ["report", "--help"]).output
    script = (
        "import sys, jmsnas.cli.report; "
        "print(sorted({'torch', 'sklearn', 'matplotlib', 'jinja2', 'pandas'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
