"""Terminal output of all commands: errors, warnings and progress on stderr, JSON on stdout."""

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

_STORAGE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG, errno.EPERM)


def log(text: str = "") -> None:
    """Print a line on stderr."""
    print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Print a warning on stderr, in yellow if it is a terminal."""
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    log(f"\033[33m{text}\033[0m" if colour else text)


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


def one_line_errors(command: Callable[P, T]) -> Callable[P, T]:
    """Wrap a command so that an expected error is one line on stderr and an exit code, not a traceback.

    Exit codes: 2 invalid input; 1 the run failed; 130 stopped by the user, with the command that resumes.
    """

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except JmsnasError as error:
            log(f"jmsnas: {error}")
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            log(f"jmsnas: stopped; finished work is kept. Resume with: {' '.join(['jmsnas', *sys.argv[1:]])}")
            gc.freeze()  # skips a garbage collection of torch at exit, most of a second
            raise typer.Exit(130) from None
        except OSError as error:
            if error.errno not in _STORAGE_ERRORS:
                raise
            log(
                f"jmsnas: {error.strerror}: {error.filename or 'a file'}. "
                "Free some disk space or choose another folder with --workspace"
            )
            raise typer.Exit(1) from None

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
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), TextColumn("{task.percentage:3.0f}%"), TimeElapsedColumn(), TextColumn("left"))
    with Bar(
        *columns, TimeRemainingColumn(), TextColumn("{task.description}"), console=Console(stderr=True)
    ) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, what: bar.update(task, completed=done, total=total, description=what)


def _plain_progress(every_s: float = 5.0) -> Progress:
    start_s, last_s, reached, task_start_s = time.monotonic(), 0.0, 0.0, 0.0

    def report(done: float, total: float, what: str) -> None:
        nonlocal last_s, reached, task_start_s
        spent_s = time.monotonic() - start_s
        if done < reached * total:  # another task started, so the rate of the last one does not apply
            last_s = task_start_s = spent_s
        reached = done / max(total, done, 1e-9)
        if spent_s - last_s >= every_s and done > 0:
            last_s = spent_s
            left_s = (spent_s - task_start_s) / done * (total - done)
            log(f"{100 * done / total:3.0f}%  {spent_s:.0f} s, about {left_s:.0f} s left  {what}")

    return report
