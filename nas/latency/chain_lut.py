"""U(.) of every candidate of every layer on every device of a chain, as one array that is filled once.

N layers, R candidates, M devices, L = N + 1 outputs (output 0 is the raw input), S states (see policy.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from jmsnas.errors import InfeasibleError
from jmsnas.nas.latency.best_split import best_split
from jmsnas.nas.latency.resources import Resource
from jmsnas.nas.split.placement import LatencyTerm, Placement, chain_latency, chain_terms
from jmsnas.nas.split.solve_chain import DeviceLimits
from jmsnas.nas.split.solve_mesh import solve_trunk_and_tail


@dataclass(frozen=True, slots=True)
class ChainLUT:
    """Latencies of a space on a chain of devices, or on the line of a mesh (trunk and tail).

    Attributes
    ----------
    U_NRM
        U_n^m(v_i) in seconds; 0 where layer n has no candidate i (see `mask_NR`).
    mask_NR
        True where layer n has a candidate i. Stem and head have one.
    epsilon_LM
        Seconds to send output n over the link behind device m; last column 0.
    moves_LMM
        Seconds to carry output n from state a to state b; infinite where the policy forbids it. Row 0
        starts at the first state, row N ends the chain.
    sent_LM
        Bytes behind `epsilon_LM`.
    states
        The device of each state; empty where each device is one state.
    return_M
        Seconds to bring the result back from device m; empty where it stays.
    limits, resources
        Layers, memory and energy a device (see solve_chain.py and resources.py).
    joint
        On the line of a mesh: how many layers the trunk has, and how many devices up to the root.
    fixed, moved_s
        The one placement there is, where the split is not free, and the seconds of all its moves.
    """

    devices: tuple[str, ...]
    policy: str
    U_NRM: NDArray[np.float64]
    mask_NR: NDArray[np.bool_]
    epsilon_LM: NDArray[np.float64]
    moves_LMM: NDArray[np.float64]
    sent_LM: NDArray[np.float64]
    states: tuple[int, ...] = ()
    return_M: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    limits: DeviceLimits | None = None
    resources: tuple[Resource, ...] = ()
    joint: tuple[int, int] | None = None
    fixed: Placement | None = None
    moved_s: float = 0.0

    @property
    def main_path(self) -> "ChainLUT":
        """The line of devices: a chain is nothing else."""
        return self

    @property
    def main_path_layers(self) -> tuple[int, ...]:
        """Places of the line's layers in the space: all."""
        return tuple(range(len(self.U_NRM)))

    @property
    def branch_layers(self) -> tuple[tuple[int, ...], ...]:
        """Places of the branches' layers: none."""
        return ()

    @property
    def U_NRS(self) -> NDArray[np.float64]:  # noqa: N802
        """U of each state."""
        return self.U_NRM[:, :, list(self.states)] if self.states else self.U_NRM

    @property
    def stops_early(self) -> bool:
        """Whether the result stays where the last layer ran."""
        return self.policy == "stop-early"

    @property
    def limited(self) -> bool:
        """Whether memory or energy can forbid a split, depending on the operations."""
        return any(resource.binds for resource in self.resources)

    def tau_NM(self, indices: Sequence[int]) -> NDArray[np.float64]:
        """Seconds of each layer on each device when layer n is candidate `indices[n]`."""
        tau_NM: NDArray[np.float64] = self.U_NRM[np.arange(len(indices)), list(indices)]
        return tau_NM

    def on_devices(self, path: Placement) -> Placement:
        """Turn a placement over states into one over devices."""
        if not self.states:
            return path
        # A device's cut is that of its last state.
        last = {device: cut for device, cut in zip(self.states, path.cuts, strict=True)}
        return Placement(tuple(last[m] for m in range(len(self.devices))))

    def best_path(self, tau_NM: NDArray[np.float64]) -> tuple[float, Placement]:
        """Least T over splits, memory and energy aside, and the placement over STATES that reaches it."""
        return best_split(tau_NM[:, list(self.states)] if self.states else tau_NM, self.moves_LMM)

    def best(self, indices: Sequence[int]) -> tuple[float, Placement]:
        """Find the least T of an architecture over all splits that are allowed, and one that reaches it.

        Raises TargetError when none is.
        """
        tau_NM = self.tau_NM(indices)
        latency_s, path = self.best_path(tau_NM)
        placement = self.on_devices(path)
        if self.holds(indices, placement):
            return latency_s, placement
        if self.fixed:
            raise InfeasibleError("the fixed split exceeds a device's memory or energy: use --split joint")
        assert self.limits is not None
        budgets = tuple(resource.budget(indices) for resource in self.resources)
        limits = replace(self.limits, budgets=budgets)
        back_M = self.return_M if self.return_M.size else None
        return solve_trunk_and_tail(tau_NM, self.epsilon_LM, self.policy, limits, back_M, self.joint)

    def holds(self, indices: Sequence[int], placement: Placement) -> bool:
        """Whether an architecture under a placement stays within each device's memory and energy."""
        budgets = (r.budget(indices) for r in self.resources if np.isfinite(r.limit_M).any())
        return all(budget.holds(placement, self.stops_early) for budget in budgets)

    def always_holds(self, placement: Placement) -> bool:
        """Whether every architecture under a placement stays within each device's memory and energy."""
        budgets = (resource.most() for resource in self.resources if resource.binds)
        return all(budget.holds(placement, self.stops_early) for budget in budgets)

    def back_s(self, placement: Placement) -> float:
        """Seconds to bring the result back from where the last layer ran."""
        return float(self.return_M[self.end(placement)]) if self.return_M.size else 0.0

    def end(self, placement: Placement) -> int:
        """Device that holds the result."""
        N = placement.cuts[-1]
        return placement.cuts.index(N) if self.stops_early else len(self.devices) - 1

    def latency_s(self, indices: Sequence[int], placement: Placement) -> float:
        """T of equation (1) of an architecture under a placement, and the result's way back; seconds."""
        tau_NM = self.tau_NM(indices)
        return chain_latency(tau_NM, self.epsilon_LM, placement, self.stops_early) + self.back_s(placement)

    def terms(self, indices: Sequence[int], placement: Placement) -> tuple[LatencyTerm, ...]:
        """Every term of equation (1), device by device, and what it takes of each device."""
        tau_NM = self.tau_NM(indices)
        tau_s, epsilon_s = chain_terms(tau_NM, self.epsilon_LM, placement, self.stops_early)
        used = {
            resource.what: resource.budget(indices).used_M(placement, self.stops_early)
            for resource in self.resources
        }
        end = self.end(placement)
        return tuple(
            LatencyTerm(
                device,
                tuple(layers),
                tau,
                epsilon,
                float(self.sent_LM[cut, m]) if epsilon else 0.0,
                return_s=self.back_s(placement) if m == end else 0.0,
                memory_bytes=float(used["memory"][m]) if "memory" in used else None,
                energy_j=float(used["energy"][m]) if "energy" in used else None,
            )
            for m, (device, layers, tau, epsilon, cut) in enumerate(
                zip(self.devices, placement.layers, tau_s, epsilon_s, placement.cuts, strict=True)
            )
        )

    def cloud_only(self, indices: Sequence[int]) -> tuple[float, float]:
        """T when the last device gets the raw input and runs everything, seconds, and the bytes of it."""
        M = len(self.devices)
        placement = Placement((0,) * (M - 1) + (len(indices),))
        return self.latency_s(indices, placement), float(self.sent_LM[0, 0])
