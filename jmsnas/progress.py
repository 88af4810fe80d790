"""How long work says how far it is: a function called with (done, total, what is being done)."""

from collections.abc import Callable

Progress = Callable[[float, float, str], None]


def no_progress(done: float, total: float, what: str) -> None:
    """Say nothing: the default of every library function."""
