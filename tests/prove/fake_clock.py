"""A fake host whose clock advances only while a block runs, so that measurements are deterministic."""

from collections.abc import Callable

import numpy as np

from jmsnas.profiler.timing.paired_timing import TimedLoop


class FakeHost:
    """Host on which a call takes a given time, multiplied by noise (a share) and the present `pace`."""

    def __init__(self, seed: int, noise: float, pace: Callable[[float], float] = lambda seconds: 1.0) -> None:
        self.seconds, self.noise, self.pace = 0.0, noise, pace
        self.generator = np.random.default_rng(seed)

    def clock(self) -> int:
        """Return nanoseconds, for `jmsnas.profiler.timing.paired_timing.measure`."""
        return round(self.seconds * 1e9)

    def timed(self, call_s: float) -> TimedLoop:
        def run(loops: int) -> float:
            factor = np.exp(self.noise * self.generator.standard_normal()) * self.pace(self.seconds)
            passed = loops * call_s * float(factor)
            self.seconds += passed
            return passed

        return run
