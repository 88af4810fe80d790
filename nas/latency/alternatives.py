"""Alternatives to the searched split of a model: the first device alone, the best split of any devices."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from jmsnas.errors import InfeasibleError
from jmsnas.nas.latency.build_lut import LatencyLUT
from jmsnas.nas.latency.mesh_lut import MeshLUT
from jmsnas.nas.split.solve_chain import policy_limits
from jmsnas.nas.split.solve_mesh import solve_trunk_and_tail


@dataclass(frozen=True, slots=True)
class SplitAlternatives:
    """T in seconds of alternatives to the searched split of a model.

    `device_only_s`: the first device runs every layer, and the result stays there. `best_split_s` is the
    least T where every device may also run no layer (policy `relay`, without limits on the number of layers),
    `best_devices` those that run layers then; None and empty where memory or energy forbid all.
    """

    device_only_s: float
    best_split_s: float | None
    best_devices: tuple[str, ...]


def split_alternatives(lut: LatencyLUT, indices: Sequence[int]) -> SplitAlternatives:
    """Compute T of the alternatives for one architecture (candidate `indices[n]` at layer n)."""
    line = lut.main_path
    own = [indices[n] for n in lut.main_path_layers]
    device_only_s = float(lut.U_NRM[np.arange(len(indices)), list(indices), 0].sum() + line.calls_M[0])
    budgets = tuple(resource.budget(own) for resource in line.resources)
    limits = replace(policy_limits("relay", len(own), len(line.devices)), budgets=budgets)
    return_M = line.return_M if line.return_M.size else None
    try:
        best_s, placement = solve_trunk_and_tail(
            line.tau_NM(own), line.epsilon_LM, "relay", limits, return_M, line.joint, line.calls_M
        )
        used = {line.devices[m] for m in placement.devices}
        if isinstance(lut, MeshLUT):
            free = replace(lut, main_path=replace(line, fixed=None))
            found = free.assign_children(lut.tau_BK(indices))
            best_s += found.latency_s
            used |= {lut.devices[lut.children[k]] for k in found.children}
    except InfeasibleError:
        return SplitAlternatives(device_only_s, None, ())
    return SplitAlternatives(device_only_s, best_s, tuple(name for name in lut.devices if name in used))
