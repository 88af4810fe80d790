"""Terminal output of all commands: results and JSON on stdout, errors, warnings and progress on stderr.

Names and messages from files, devices and users are escaped here, at the only place that prints them.
"""

import errno
import functools
import gc
import json
import os
import re
import shlex
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec, TextIO, TypeVar

import typer

from jmsnas.errors import JmsnasError
from jmsnas.progress import Progress, no_progress
from jmsnas.streams import printable

P = ParamSpec("P")
T = TypeVar("T")

_STORAGE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG, errno.EPERM)


# A name in a file may be as long as the file; the remedy is at the end.
_LONGEST_MESSAGE = 2000
# Characters of a table's last column that must fit the terminal beside the others.
_FREE_TEXT = 20
_NUMBER_AND_UNIT = re.compile(r"(\d) ((?:[num]?s|[kMG]?B|[kMG]bit/s|m?W|m?J|%|rows|days)\b|%)")
# Whether the command line has --json, so that an error is a JSON document on stdout too.
json_errors: ContextVar[bool] = ContextVar("json_errors", default=False)
# Below this share of the work, its rate so far says little about the time left.
_MIN_SHARE = 0.05


def print_line(*lines: str) -> None:
    """Print lines of results on stdout; line ends and escapes inside of a line are shown, not obeyed."""
    print("\n".join(_fit(printable(line), sys.stdout) for line in lines))


def _fit(line: str, stream: TextIO) -> str:
    """Wrap a line that is longer than the terminal between words; a number keeps its unit."""
    columns = shutil.get_terminal_size().columns
    if len(line) <= columns or not stream.isatty():
        return line
    blank = line[: min(len(line) - len(line.lstrip()), columns // 4)]
    indent = blank + " " * 4
    whole = blank + _NUMBER_AND_UNIT.sub("\\1\0\\2", line.lstrip())
    wrapped = textwrap.wrap(
        whole, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(wrapped).replace("\0", " ")


def table_lines(
    columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]], indent: str = "", head: bool = True
) -> Iterator[str]:
    """Format a table of `columns`, pairs of a name and a format specification such as `>12`.

    Where a line is wider than the terminal (of a last column of free text, 20 characters count), each row is
    a block of `name: value` lines instead, without empty cells. Without `head` the names are left out.
    """
    names, cells = [name for name, _ in columns], [*rows]
    lines = [
        indent + "".join(f"{cell:{spec}}" for cell, (_, spec) in zip(row, columns, strict=True)).rstrip()
        for row in (names, *cells)
    ]
    free = 0 if columns[-1][1] else max(len(row[-1]) for row in (names, *cells))
    width = max(map(len, lines)) - max(0, free - _FREE_TEXT)
    if not sys.stdout.isatty() or width <= shutil.get_terminal_size().columns:
        yield from lines[not head :]
        return
    for row in cells:
        pairs = [(name.strip(), cell.strip()) for name, cell in zip(names, row, strict=True) if cell.strip()]
        for position, (name, cell) in enumerate(pairs):
            yield f"{indent}{'  ' * (position > 0)}{name}{': ' * bool(name)}{cell}"


def log(text: str = "") -> None:
    """Print a line on stderr; line ends and escapes inside of `text` are shown, not obeyed."""
    print(_fit(printable(text), sys.stderr), file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Print a warning on stderr, in yellow if it is a terminal."""
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    shown = _fit(printable(text), sys.stderr)
    print(f"\033[33m{shown}\033[0m" if colour else shown, file=sys.stderr, flush=True)


def warn_simulated(devices: list[str]) -> None:
    """Warn that devices are simulated, with the command that measures them."""
    for device in devices:
        warn(
            f"SIMULATED: {device} was not measured; its latencies are a roofline of published figures. "
            f"To measure it, on that machine: jmsnas profile --device {device}"
        )


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON document on stdout, with its schema version first."""
    print(json.dumps({"schema_version": 2, **document}, indent=2, allow_nan=False))


def failure(kind: str, message: str, exit_code: int) -> typer.Exit:
    """Print an error as one line on stderr, with --json as a document on stdout too; return the exit."""
    message = " ".join(message.splitlines())
    if len(message) > _LONGEST_MESSAGE:
        message = f"{message[: _LONGEST_MESSAGE - 400]} ... {message[-390:]}"
    log(f"jmsnas: {message}")
    if json_errors.get():
        print_json({"error": {"kind": kind, "message": message, "exit_code": exit_code}})
    return typer.Exit(exit_code)


def one_line_errors(command: Callable[P, T]) -> Callable[P, T]:
    """Wrap a command so that an expected error is one line on stderr and an exit code, not a traceback.

    Exit codes: 2 invalid input; 1 the run failed; 130 stopped by the user, with the command that resumes.
    """

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except JmsnasError as error:
            raise failure(type(error).__name__, str(error), error.exit_code) from None
        except KeyboardInterrupt:
            gc.freeze()  # skips a garbage collection of torch at exit, most of a second
            resume = shlex.join(["jmsnas", *sys.argv[1:]])
            raise failure("Stopped", f"stopped; finished work is kept. Resume with: {resume}", 130) from None
        except OSError as error:
            if error.errno not in _STORAGE_ERRORS:
                raise
            raise failure(
                "StorageError",
                f"{error.strerror}: {error.filename or 'a file'}. "
                "Free some disk space or choose another folder with --workspace",
                1,
            ) from None

    return wrapped


@contextmanager
def progress_bar(shown: bool = True) -> Iterator[Progress]:
    """Show progress and the remaining time: a bar on a terminal, else a line every few seconds."""
    if not shown:
        yield no_progress
        return
    if not sys.stderr.isatty():
        yield _plain_progress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), TextColumn("{task.percentage:3.0f}%"), TimeElapsedColumn())
    text = TextColumn("{task.fields[left]}  {task.description}", markup=False)
    with Bar(*columns, text, console=Console(stderr=True)) as bar:
        task, time_left = bar.add_task("", total=None, left=""), _time_left()

        def report(done: float, total: float, what: str) -> None:
            _, left = time_left(done, total)
            bar.update(task, completed=done, total=total, description=printable(what), left=left)

        yield report


def _time_left() -> Callable[[float, float], tuple[float, str]]:
    """Make a function from (done, total) to the seconds spent so far and a text of the time left."""
    start_s = time.monotonic()
    reached, task_start_s = 0.0, 0.0

    def time_left(done: float, total: float) -> tuple[float, str]:
        nonlocal reached, task_start_s
        spent_s = time.monotonic() - start_s
        if done < reached * total:  # another task started, so the rate of the last one does not apply
            task_start_s = spent_s
        reached = done / max(total, done, 1e-9)
        if reached < _MIN_SHARE:
            return spent_s, "time left not known yet"
        return spent_s, f"about {(spent_s - task_start_s) / done * (total - done):.0f} s left"

    return time_left


def _plain_progress(every_s: float = 5.0) -> Progress:
    """Make a progress callback that prints a line on stderr every few seconds."""
    time_left, last_s = _time_left(), 0.0

    def report(done: float, total: float, what: str) -> None:
        nonlocal last_s
        spent_s, left = time_left(done, total)
        if spent_s - last_s >= every_s:
            last_s = spent_s
            log(f"{100 * done / total if total else 0:3.0f}%  {spent_s:.0f} s, {left}  {what}")

    return report
