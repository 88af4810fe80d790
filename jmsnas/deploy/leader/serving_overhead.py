"""Serving overhead of a part over the sum of its blocks' U(.): call overhead, cold caches, contention."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Below this ratio of the longest to the shortest U(.) the slope would be noise.
_LEAST_SPREAD = 1.3
# A part with layers takes some time, whatever line was fitted.
_LEAST_S = 1e-7


@dataclass(frozen=True, slots=True)
class ServingOverhead:
    """Latency of a device that serves a part, seconds: a_s + b * U(.)."""

    a_s: float = 0.0
    b: float = 1.0

    def served_s(self, tau_s: float) -> float:
        """Return the seconds of a part whose layers take `tau_s` by U(.); 0 for a part without layers."""
        return max(_LEAST_S, self.a_s + self.b * tau_s) if tau_s else 0.0


def fit_serving_overhead(tau_s: Sequence[float], measured_s: Sequence[float]) -> ServingOverhead:
    """Fit measured = a + b * tau; b is 1 where `tau_s` spreads too little or the slope is not positive."""
    x, y = np.asarray(tau_s), np.asarray(measured_s)
    if x.max() >= _LEAST_SPREAD * x.min() and x.max() > 0:
        b, a = np.polyfit(x, y, 1)
        if b > 0:
            return ServingOverhead(float(a), float(b))
    return ServingOverhead(float(np.mean(y - x)))
