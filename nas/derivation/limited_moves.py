"""Limited resources of a chain by state, in shares of the limits of the devices.

N layers, R candidates, S states, L = N + 1 outputs, Q limited resources.
"""

from dataclasses import dataclass

import numpy as np

from jmsnas.arrays import BoolArray, FloatArray
from jmsnas.nas.latency.chain_lut import ChainLUT

# Limits and times that are reached exactly are met, whatever the order of the sums.
ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class LimitedMoves:
    """Limited resources of a chain by state, in shares of the limits of the devices.

    `use_QNRS`, `peak_QNRS` and `sent_QLS`: share of the limit that a candidate uses, at its largest, and
    that sending output n from the state takes. `moves_LSS`: as of the chain, infinite where a device that
    only relays exceeds a limit. `free_NRS`: whether the candidate alone is within the limits. `same_SS`:
    whether two states are of one device.
    """

    use_QNRS: FloatArray
    peak_QNRS: FloatArray
    sent_QLS: FloatArray
    moves_LSS: FloatArray
    U_NRS: FloatArray
    free_NRS: BoolArray
    same_SS: BoolArray

    def binds(self, q: int, s: int) -> bool:
        """Whether the device of state s has a limit of resource q."""
        return bool(self.use_QNRS[q, :, :, s].any() or self.peak_QNRS[q, :, :, s].any())


def limited_moves(line: ChainLUT) -> LimitedMoves:
    """Collect the resources that bind, with what relaying devices may not send."""
    devices = np.array(line.states or range(len(line.devices)))
    moves_LSS, (N, S) = line.moves_LMM.copy(), (len(line.U_NRM), len(devices))
    use, peak, sent = [], [], []
    for resource in (resource for resource in line.resources if resource.binds):
        limit_M = np.maximum(resource.limit_M * (1 + ROUNDING), 1e-300)
        sent_LM = resource.sent_LM / limit_M
        if line.stops_early:
            sent_LM[N] = 0.0
        for n, m in np.argwhere(sent_LM > 1).tolist():
            before = devices < m if n else np.ones(S, dtype=bool)
            behind = devices > m if n < N else np.ones(S, dtype=bool)
            moves_LSS[n][np.ix_(before, behind)] = np.inf
        use.append((resource.use_NRM / limit_M)[:, :, devices])
        peak.append((resource.peak_NR[:, :, None] / limit_M)[:, :, devices])
        sent.append(sent_LM[:, devices])
    use_QNRS, peak_QNRS, sent_QLS = np.array(use), np.array(peak), np.array(sent)
    free_NRS = (use_QNRS + peak_QNRS <= 1).all(axis=0) & line.mask_NR[:, :, None]
    same_SS = devices[:, None] == devices
    return LimitedMoves(use_QNRS, peak_QNRS, sent_QLS, moves_LSS, line.U_NRS, free_NRS, same_SS)
