import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmsnas.streams import printable

JMSNAS = f"{sys.executable} -m jmsnas"


def shell(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", script], capture_output=True, text=True, env=os.environ | environment
    )


@given(st.text())
def test_printable_text_has_nothing_that_a_terminal_interprets(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable() and "\x1b" not in shown and printable(shown) == shown
    shown.encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b31m", r"\x9b31m"),
        ("ok\rno", r"ok\rno"),
        ("a\nb", r"a\nb"),
        ("\u202egnp", r"\u202egnp"),
        ("\udcff", r"\udcff"),
        ("naïve µs", "naïve µs"),
    ],
)
def test_controls_are_shown_by_their_codes(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("devices | head -c1", 0),
        ("devices --json | head -c1", 0),
        ("devices | true", 0),
        ("--help | true", 0),
        ("table --help | head -1", 0),
        ("split none 2>&1 | true", 2),
        ("devices >&-", 0),
        ("devices --json >&- 2>&-", 0),
        ("devices <&- >&- 2>&-", 0),
        ("split none 2>&-", 2),
        ("split none --json >&-", 2),
        ("devices >/dev/full", 1),
        ("devices 2>/dev/full", 0),
    ],
)
def test_exit_code_is_that_of_the_command_whatever_the_streams_are(command: str, code: int) -> None:
    done = shell(f"{JMSNAS} {command}")
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    if "full" not in command and "none" not in command:
        assert done.stderr == ""


def test_closed_stderr_does_not_print_errors_on_stdout() -> None:
    assert shell(f"{JMSNAS} split none 2>&-").stdout == ""


def test_full_disk_under_stdout_is_named() -> None:
    assert "cannot write the output: No space left on device" in shell(f"{JMSNAS} devices >/dev/full").stderr


def test_output_in_ascii_is_escaped() -> None:
    done = shell(f"{JMSNAS} devices --workspace dé$'\\xff'", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and done.stdout.isascii() and "Traceback" not in done.stderr
    done = shell(f"{JMSNAS} split --costs é.csv", PYTHONIOENCODING="ascii")
    assert done.returncode == 2 and r"\xe9.csv" in done.stderr


def on_terminal(command: list[str], columns: int) -> list[str]:
    """Run a command on a pseudo-terminal of a width, and return its lines."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    with subprocess.Popen(
        [sys.executable, "-m", "jmsnas", *command],
        stdout=follower,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as process:
        os.close(follower)
        content = bytearray()
        while True:
            try:
                part = os.read(leader, 4096)
            except OSError:  # the terminal ends so on Linux
                break
            if not part:
                break
            content += part
    assert process.returncode == 0
    os.close(leader)
    return content.decode().replace("\r\n", "\n").splitlines()


COSTS = """layer,bytes,phone,server
input:uint8,150528,,
a layer of a long name,1605632,12.4ms,0.21ms
head,4000,1.5ms,0.05ms
"""


@pytest.mark.parametrize("command", [["devices"], ["split", "--costs", "costs.csv", "--topology", "n.toml"]])
def test_lines_fit_a_terminal_of_40_columns_and_cut_no_number(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "costs.csv").write_text(COSTS)
    (tmp_path / "n.toml").write_text((Path(__file__).parent / "cases" / "tables" / "n.toml").read_text())
    wide, narrow = on_terminal(command, 400), on_terminal(command, 40)
    assert max(map(len, narrow)) <= 40
    numbers = re.compile(r"[\d.]+ (?:ms|us|s|B)\b")
    assert numbers.findall("\n".join(wide)) == numbers.findall("\n".join(narrow))
    assert " ".join("\n".join(wide).split()) == " ".join("\n".join(narrow).split())
