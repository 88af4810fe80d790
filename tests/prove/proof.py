"""Number of trials of a promise, and the results that its tests report."""

import os
from dataclasses import dataclass, field

LEVELS = ("", "prove", "long")
LEVEL = LEVELS.index(os.environ.get("JMSNAS_PROVE", ""))


@dataclass
class Proof:
    """Results of the tests of one file for their promise: `figures` (texts), and the seconds they took."""

    promise: str
    figures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, test: int, long: int, prove: int = 0) -> int:
        """Return the number of trials of this level; `make prove` uses that of `make test` by default."""
        return (test, prove or test, long)[LEVEL]

    def show(self, figure: str) -> None:
        self.figures.append(figure)
