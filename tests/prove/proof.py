"""How much of a promise is tried, and what it showed."""

import os
from dataclasses import dataclass, field

LEVELS = ("", "prove", "long")
LEVEL = LEVELS.index(os.environ.get("JMSNAS_PROVE", ""))


@dataclass
class Proof:
    """What the tests of a file showed of their promise: `figures`, in words, and the seconds they took."""

    promise: str
    figures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, test: int, long: int, prove: int = 0) -> int:
        """How many to try; `make prove` tries as many as `make test` where nothing else is said."""
        return (test, prove or test, long)[LEVEL]

    def show(self, figure: str) -> None:
        self.figures.append(figure)
