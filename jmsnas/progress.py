"""Progress callback of long-running functions: called with (done, total, description)."""

from collections.abc import Callable

Progress = Callable[[float, float, str], None]


def no_progress(done: float, total: float, what: str) -> None:
    """Ignore progress; the default of library functions."""
