"""Upper bounds on the score of architectures that exceed a limit of memory or energy under a given split.

Where limits bind, an architecture in a band is slow enough under every split that they ALLOW: so under a
given split it is slow enough (chain_bounds.py), or it exceeds the limit of some device. V pairs of a split
and a device with a limit that some architecture exceeds; K cells of a limit, of which each use is rounded up.
N layers, R candidates, C splits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from jmsnas.arrays import BoolArray, FloatArray, IntArray
from jmsnas.nas.derivation.chain_bounds import maximum_shifted_clipped
from jmsnas.nas.latency.chain_lut import ChainLUT
from jmsnas.nas.split.placement import Placement

_CELLS = 500
# Sums of at most a few hundred shares of a limit differ by less, in cells.
_ROUNDING_CELLS = 1e-9


@dataclass(frozen=True, slots=True)
class SplitExcess:
    """Bounds of V pairs; `split_V` is the split, or weighted mean of splits, of each.

    `use_VNR` and `peak_VNR`: shares of the limit, 0 for layers of other devices. `sent_V`: share that sending
    the device's output takes. `score_VL2K[v, n, j, k]`: best score of layers n.. of which those of the device
    use at least k cells, together with the peak of one of them (j = 0) or without it (j = 1).
    """

    split_V: IntArray
    use_VNR: FloatArray
    peak_VNR: FloatArray
    sent_V: FloatArray
    score_VL2K: FloatArray

    def bound(self, chosen: tuple[int, ...], columns: IntArray, C: int) -> FloatArray:
        """Bound the score after each candidate of the next layer, (C, R); -inf where nothing is exceeded."""
        n, own, over_CR = len(chosen), list(chosen), np.full((C, len(columns)), -np.inf)
        rows, pairs = np.arange(n), np.arange(len(self.split_V))
        before_V = self.sent_V + self.use_VNR[:, rows, own].sum(axis=1)
        left_VR = 1 - before_V[:, None] - self.use_VNR[:, n, columns]
        peak_V1 = self.peak_VNR[:, rows, own].max(axis=1, initial=0.0)[:, None]
        after_VR = left_VR - np.maximum(peak_V1, self.peak_VNR[:, n, columns])
        for j, cells_VR in enumerate((left_VR, after_VR)):
            at_VR = np.floor(cells_VR * _CELLS - _ROUNDING_CELLS).clip(0, _CELLS).astype(np.intp)
            np.maximum.at(over_CR, self.split_V, self.score_VL2K[pairs[:, None], n + 1, j, at_VR])
        return over_CR

    def joined(self, other: "SplitExcess", C: int) -> "SplitExcess":
        """Concatenate with the pairs of splits that follow the first C."""
        parts = {f.name: [getattr(self, f.name), getattr(other, f.name)] for f in fields(self)}
        parts["split_V"][1] = other.split_V + C
        return SplitExcess(**{name: np.concatenate(both) for name, both in parts.items()})


def split_excess(
    log_p_NR: FloatArray, line: ChainLUT, placements: Sequence[Placement], behind: float
) -> SplitExcess:
    """Compute the bounds of one weighted mean of splits; `behind`: best score of the branches of a mesh."""
    found = [
        (use_NR, peak_NR, sent, _score_L2K(log_p_NR, line.mask_NR, use_NR, peak_NR, layers, behind))
        for path in placements
        for use_NR, peak_NR, sent, layers in _exceeding(line, line.on_devices(path))
    ]
    (N, R), V = line.mask_NR.shape, len(found)
    use, peak, sent, score = zip(*found, strict=True) if found else ((), (), (), ())
    return SplitExcess(
        np.zeros(V, dtype=np.intp),
        np.array(use).reshape(V, N, R),
        np.array(peak).reshape(V, N, R),
        np.array(sent),
        np.array(score).reshape(V, N + 1, 2, _CELLS + 1),
    )


def _exceeding(
    line: ChainLUT, placement: Placement
) -> Iterator[tuple[FloatArray, FloatArray, float, BoolArray]]:
    """Generate the shares of the limits that some architecture exceeds: use, peak, sent, and layers."""
    N = len(line.mask_NR)
    for resource in (resource for resource in line.resources if resource.binds):
        for m, (layers, cut) in enumerate(zip(placement.layers, placement.cuts, strict=True)):
            here_N = np.zeros(N, dtype=bool)
            here_N[layers.start - 1 : layers.stop - 1] = True
            here_NR = here_N[:, None] & line.mask_NR
            limit = max(resource.limit_M[m], 1e-300)
            use_NR = np.where(here_NR, resource.use_NRM[:, :, m] / limit, 0.0)
            peak_NR = np.where(here_NR, resource.peak_NR / limit, 0.0)
            sent = 0.0 if line.stops_early and cut == N else float(resource.sent_LM[cut, m]) / limit
            if use_NR.max(axis=1).sum() + peak_NR.max() + sent > 1:
                yield use_NR, peak_NR, sent, here_N


def _score_L2K(
    log_p_NR: FloatArray,
    mask_NR: BoolArray,
    use_NR: FloatArray,
    peak_NR: FloatArray,
    here_N: BoolArray,
    behind: float,
) -> FloatArray:
    N, never = len(mask_NR), -np.inf
    use_cells, peak_cells = (
        np.ceil(np.minimum(its_NR, 1.0) * _CELLS).astype(np.intp).tolist() for its_NR in (use_NR, peak_NR)
    )
    score_L2K = np.full((N + 1, 2, _CELLS + 1), never)
    score_L2K[N, :, 0] = behind
    for n in range(N - 1, -1, -1):
        if not here_N[n]:
            score_L2K[n] = score_L2K[n + 1] + np.where(mask_NR[n], log_p_NR[n], never).max()
            continue
        for i in np.flatnonzero(mask_NR[n]):
            gained_2K, used, peak = score_L2K[n + 1] + log_p_NR[n, i], use_cells[n][i], peak_cells[n][i]
            for target_K, source_K, cells in (
                (score_L2K[n, 0], gained_2K[0], used),
                (score_L2K[n, 0], gained_2K[1], used + peak),
                (score_L2K[n, 1], gained_2K[1], used),
            ):
                maximum_shifted_clipped(target_K, source_K, cells)
    return np.maximum.accumulate(score_L2K[:, :, ::-1], axis=2)[:, :, ::-1]
