"""Number of trials of a promise, its time limits, and the results that its tests report."""

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

    def within(self, what: str, seconds: float, factor: float, baseline_s: float, baseline: str) -> str:
        """Check, in `make prove` only, that a duration is at most `factor` times a baseline of the same run.

        `make test` checks no durations, as it must pass on a machine of any speed. Returns the text to show.
        """
        ratio = seconds / baseline_s
        text = f"{what} {1e3 * seconds:.3g} ms, {ratio:.2g} x {baseline} ({1e3 * baseline_s:.3g} ms)"
        if LEVEL:
            assert seconds <= factor * baseline_s, f"{text}: expected at most {factor:g} x"
        return text

    def show(self, figure: str) -> None:
        self.figures.append(figure)
