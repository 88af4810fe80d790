import errno
import json
import subprocess
import sys
from collections.abc import Callable

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
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(now))
    with terminal.progress_bar() as progress:
        progress(1, 10, "too soon to say")
        progress(5, 10, "half way")
        progress(6, 10, "said a moment ago")
    assert capsys.readouterr().err == " 50%  10 s, about 10 s left  half way\n"


def test_time_left_is_that_of_the_work_under_way(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # 60 s for four models, then images: 50 of 200 in 6 s, so 18 s for the others.
    now = iter([0.0, 60.0, 60.0, 66.0])
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(now))
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


def test_no_command_prints_the_help() -> None:
    for arguments, text in (([], "quickstart"), (["table"], "export")):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 2 and text in done.output and "See: " not in done.output
