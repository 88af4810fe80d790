import errno
import json
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from jmsnas.cli import app, terminal
from jmsnas.errors import InputError, RunError


def raising(error: BaseException) -> Callable[[], None]:
    def verb() -> None:
        raise error

    return terminal.one_line_errors(verb)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("got a, expected b"), 2, "jmsnas: got a, expected b"),
        (RunError("the loss became nan"), 1, "jmsnas: the loss became nan"),
        (
            OSError(errno.ENOSPC, "No space left on device", "x.parquet"),
            1,
            "No space left on device: x.parquet",
        ),
        (
            OSError(errno.EROFS, "Read-only file system"),
            1,
            "Read-only file system: a file. Free some disk space or",
        ),
        (KeyboardInterrupt(), 130, "finished work is kept. Resume with: jmsnas"),
    ],
)
def test_what_goes_wrong_is_one_line_and_a_code(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as stopped:
        raising(error)()
    assert stopped.value.exit_code == code
    out, err = capsys.readouterr()
    assert out == "" and line in err and len(err.strip().splitlines()) == 1


def test_a_mistake_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        raising(ZeroDivisionError())()
    with pytest.raises(OSError, match="Connection reset"):
        raising(OSError(errno.ECONNRESET, "Connection reset"))()


def test_progress_off_a_terminal_is_plain_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([0.0, 1.0, 10.0, 12.0])
    monkeypatch.setattr(terminal, "time", SimpleNamespace(monotonic=lambda: next(now)))
    with terminal.progress_bar() as progress:
        progress(1, 10, "too soon to say")
        progress(5, 10, "half way")
        progress(6, 10, "said a moment ago")
    assert capsys.readouterr().err == " 50%  10 s, about 10 s left  half way\n"


def test_no_time_left_is_printed_before_a_twentieth_of_the_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([0.0, 50.0, 100.0, 200.0])
    monkeypatch.setattr(terminal, "time", SimpleNamespace(monotonic=lambda: next(now)))
    with terminal.progress_bar() as progress:
        progress(0, 100, "exporting blocks")
        progress(1, 100, "preparing blocks")
        progress(5, 100, "pi4")
    assert capsys.readouterr().err.splitlines() == [
        "  0%  50 s, time left not known yet  exporting blocks",
        "  1%  100 s, time left not known yet  preparing blocks",
        "  5%  200 s, about 3800 s left  pi4",
    ]


def test_time_left_is_that_of_the_work_under_way(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # 60 s for four models, then images: 50 of 200 in 6 s, so 18 s for the others.
    now = iter([0.0, 60.0, 60.0, 66.0])
    monkeypatch.setattr(terminal, "time", SimpleNamespace(monotonic=lambda: next(now)))
    with terminal.progress_bar() as progress:
        progress(4, 4, "models")
        progress(0, 200, "images")
        progress(50, 200, "images")
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["100%  60 s, about 0 s left  models", " 25%  66 s, about 18 s left  images"]


def test_simulated_devices_are_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.warn_simulated(["jetson"])
    err = capsys.readouterr().err
    assert err.startswith("SIMULATED: jetson was not measured") and "jmsnas profile --device jetson" in err


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; from typer.testing import CliRunner; from jmsnas.cli import app\n"
        "done = CliRunner().invoke(app, ['--help']); assert done.exit_code == 0, done.output\n"
        "heavy = {'torch', 'torchvision', 'sklearn', 'pandas', 'pyarrow', 'matplotlib', 'onnxruntime',"
        " 'numpy', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)), 'quickstart' in done.output)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] True"


def test_document_says_the_version_of_its_schema_first(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_json({"rows": 1})
    assert list(json.loads(capsys.readouterr().out).items()) == [("schema_version", 2), ("rows", 1)]
    terminal.print_json({"rows": 1, "schema_version": 3})
    assert list(json.loads(capsys.readouterr().out).items()) == [("schema_version", 3), ("rows", 1)]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["search", "--seeds"], "No such option: --seeds"),
        (["deploy"], "Missing argument"),
        (["deploy", "x", "--requests", "3"], "Invalid value for '--requests'"),
        (["serch"], "No such command 'serch'"),
        (["table", "none"], "No such command 'none'"),
        (["search", "--topology"], "--topology"),
        (["--none"], "No such option: --none"),
    ],
)
def test_usage_errors_are_one_line(arguments: list[str], line: str) -> None:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith("jmsnas: ") and line in done.stderr and done.stderr.endswith(" --help\n")


# For each command a fault of its input, besides an unknown option.
FAULTS = {
    "quickstart": ["--seed", "x"],
    "devices": ["extra"],
    "profile": ["--device", "none"],
    "table check": ["none.parquet"],
    "table compare": ["none.parquet", "none.parquet"],
    "table export": ["none.parquet", "--csv", "out.csv"],
    "table import": ["none.csv", "--device", "board"],
    "fit-estimator": ["--table", "none.parquet"],
    "predict": ["--device", "none", "--block", "none"],
    "search": ["--topology", "none"],
    "sweep": ["--topology", "none"],
    "split": ["none"],
    "compare": ["none"],
    "certs": ["--device", "../none"],
    "deploy": ["none"],
    "report": ["none"],
}


@pytest.mark.parametrize("command", FAULTS)
def test_with_json_an_error_is_a_document_too(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (FAULTS[command], ["--no-such-option"]):
        line = [*command.split(), *arguments]
        plain, done = (CliRunner().invoke(app, [*line, *extra]) for extra in ([], ["--json"]))
        assert plain.exit_code == done.exit_code == 2 and plain.stdout == "", done.output
        error = json.loads(done.stdout)["error"]
        assert error["exit_code"] == 2 and error["message"] in done.stderr and error["kind"].endswith("Error")


def test_a_failed_run_is_a_document_with_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    for error, code in ((RunError("no clock"), 1), (KeyboardInterrupt(), 130)):
        token = terminal.json_errors.set(True)
        with pytest.raises(typer.Exit):
            raising(error)()
        terminal.json_errors.reset(token)
        assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == code


def test_message_with_a_name_of_a_megabyte_is_shortened(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        raising(InputError(f"unknown device {'x' * 2**20}: expected pi4"))()
    err = capsys.readouterr().err
    assert (
        err.startswith("jmsnas: unknown device x") and err.endswith("x: expected pi4\n") and len(err) < 2100
    )


def test_version() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert done.exit_code == 0 and re.fullmatch(r"jmsnas \d+\.\d+\.\d+\n", done.stdout)


def test_text_of_others_does_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for show in (terminal.print_line, terminal.log, terminal.warn):
        show("pi4\x1b[2J\nok  agent of cloud")
    with pytest.raises(typer.Exit):
        raising(InputError("pi4\x1b[2J\nok  agent of cloud"))()
    with terminal.progress_bar() as progress:
        progress(1, 2, "pi4\x1b[2J\nok  agent of cloud")
    found = capsys.readouterr()
    assert "\x1b" not in found.out + found.err and "\nok" not in found.out + found.err


COLUMNS = [("method", "<14"), ("T", ">12"), ("  layers by device", "")]
ROWS = [("optimal", "51.47 ms", "  laptop 19, and a note that is longer than a line"), ("device", "-", "")]


def test_a_table_is_one_line_a_row_where_it_fits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = [
        "  method                   T  layers by device",
        "  optimal           51.47 ms  laptop 19, and a note that is longer than a line",
        "  device                   -",
    ]
    monkeypatch.setenv("COLUMNS", "40")
    assert [*terminal.table_lines(COLUMNS, ROWS, "  ")] == wide  # not a terminal
    monkeypatch.setattr(terminal.sys.stdout, "isatty", lambda: True)
    stacked = [
        "  method: optimal",
        "    T: 51.47 ms",
        "    layers by device: laptop 19, and a note that is longer than a line",
        "  method: device",
        "    T: -",
    ]
    assert [*terminal.table_lines(COLUMNS, ROWS, "  ")] == stacked
    terminal.print_line(*stacked, " " * 31 + "run:  python -m pip install numpy")
    assert capsys.readouterr().out.splitlines() == [
        *stacked[:2],
        "    layers by device: laptop 19, and a",
        "        note that is longer than a line",
        *stacked[3:],
        "          run:  python -m pip install",
        "              numpy",
    ]
    # Of the last column, free text, 20 characters count: it is wrapped.
    monkeypatch.setenv("COLUMNS", "48")
    assert [*terminal.table_lines(COLUMNS, ROWS, "  ")] == wide
    assert [*terminal.table_lines(COLUMNS, ROWS, "  ", head=False)] == wide[1:]
    assert [*terminal.table_lines(COLUMNS, [])] == [wide[0][2:]]


HELPS = [[], *([command.name] for command in app.registered_commands), ["table"], ["table", "import"]]
HELPS += [["topology"], ["topology", "collect"], ["topology", "show"]]


@pytest.mark.parametrize("words", HELPS, ids=" ".join)
def test_help_on_40_columns_names_each_option_in_full(words: list[str]) -> None:
    wide, done = (
        CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": columns}) for columns in ("300", "40")
    )
    assert done.exit_code == 0 and "[bold]" not in done.stdout
    names = re.findall(r"--[a-z]+(?:-[a-z]+)*", wide.stdout)
    whole = "".join(done.stdout.split())
    assert all(name in whole for name in names)
    assert max(map(len, done.stdout.splitlines())) <= 40


def test_no_command_prints_the_help() -> None:
    for columns, (arguments, text) in product(("40", "80"), (([], "quickstart"), (["table"], "export"))):
        done = CliRunner().invoke(app, arguments, env={"COLUMNS": columns})
        assert done.exit_code == 2 and text in done.output and "See: " not in done.output
