"""What serving a part takes over U(.): a call that comes unawaited, with cold caches, among neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Below this ratio of a device's longest to its shortest U(.), noise would turn the line.
_LEAST_SPREAD = 1.3


@dataclass(frozen=True, slots=True)
class ServingOverhead:
    """Seconds that a device takes to serve a part: a_s + b * U."""

    a_s: float = 0.0
    b: float = 1.0

    def seconds(self, tau_s: float) -> float:
        """Give the seconds of a part whose layers take `tau_s` by the table; 0 where it has none."""
        return self.a_s + self.b * tau_s if tau_s else 0.0


def fit_serving_overhead(tau_s: Sequence[float], taken_s: Sequence[float]) -> ServingOverhead:
    """Fit taken = a + b * tau; b is 1 where the parts are too much alike to tell, or the line falls."""
    x, y = np.asarray(tau_s), np.asarray(taken_s)
    if x.max() >= _LEAST_SPREAD * x.min() and x.max() > 0:
        b, a = np.polyfit(x, y, 1)
        if b > 0:
            return ServingOverhead(float(a), float(b))
    return ServingOverhead(float(np.mean(y - x)))
