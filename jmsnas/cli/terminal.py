"""What every verb says to the person at the terminal: errors, warnings, progress (stderr), JSON (stdout)."""

import errno
import functools
import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import typer

from jmsnas.errors import JmsnasError
from jmsnas.progress import Progress, no_progress

P = ParamSpec("P")
T = TypeVar("T")


def log(text: str = "") -> None:
    """Print a line for the person at the terminal, on stderr."""
    print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Print a warning on stderr, in yellow where that can be seen."""
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    log(f"\033[33m{text}\033[0m" if colour else text)


def warn_simulated(devices: list[str]) -> None:
    """Say loudly that devices are simulated, and what would replace them."""
    for device in devices:
        warn(
            f"SIMULATED: {device} was not measured; its latencies are a roofline of published figures. "
            f"To measure it, on that machine: jmsnas profile --device {device}"
        )


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON document on stdout, the version of its schema first."""
    print(json.dumps({"schema_version": 1, **document}, indent=2, allow_nan=False))


def one_line_errors(verb: Callable[P, T]) -> Callable[P, T]:
    """Wrap a verb so that what goes wrong is one line on stderr and an exit code, never a traceback.

    2: the input was wrong; 1: the run failed; 130: stopped by the user, with the line that resumes it.
    """

    @functools.wraps(verb)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return verb(*args, **kwargs)
        except JmsnasError as error:
            log(f"jmsnas: {error}")
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            log(f"jmsnas: stopped; what was finished is kept. Go on with: {command_line()}")
            gc.freeze()  # else the end of Python looks through all of torch once more, for most of a second
            raise typer.Exit(130) from None
        except OSError as error:
            if error.errno not in (
                errno.ENOSPC,
                errno.EDQUOT,
                errno.EROFS,
                errno.EACCES,
                errno.EFBIG,
                errno.EPERM,
            ):
                raise
            log(
                f"jmsnas: {error.strerror}: {error.filename or 'a file'}. "
                "Free some disk space or choose another folder with --workspace"
            )
            raise typer.Exit(1) from None

    return wrapped


def command_line() -> str:
    """Give the command as it was typed."""
    return " ".join(["jmsnas", *sys.argv[1:]])


@contextmanager
def progress_bar(shown: bool = True) -> Iterator[Progress]:
    """Show progress with the time left: a bar on a terminal, else a plain line every few seconds."""
    if not shown:
        yield no_progress
        return
    if not sys.stderr.isatty():
        yield _plain_progress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), TextColumn("{task.percentage:3.0f}%"), TimeElapsedColumn(), TextColumn("left"))
    with Bar(
        *columns, TimeRemainingColumn(), TextColumn("{task.description}"), console=Console(stderr=True)
    ) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, what: bar.update(task, completed=done, total=total, description=what)


def _plain_progress(every_s: float = 5.0) -> Progress:
    began, last, reached, other = time.monotonic(), 0.0, 0.0, 0.0

    def report(done: float, total: float, what: str) -> None:
        nonlocal last, reached, other
        spent = time.monotonic() - began
        if done < reached * total:  # another piece of work: what the one before took says nothing of it
            last = other = spent
        reached = done / max(total, done, 1e-9)
        if spent - last >= every_s and done > 0:
            last = spent
            left = (spent - other) / done * (total - done)
            log(f"{100 * done / total:3.0f}%  {spent:.0f} s, about {left:.0f} s left  {what}")

    return report
