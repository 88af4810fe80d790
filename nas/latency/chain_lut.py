"""Latency table of a search space on a chain: U(.) of every candidate of every layer on every device.

N layers, R candidates, M devices, L = N + 1 outputs (output 0 is the raw input), S states (see policy.py).
"""

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from jmsnas.arrays import BoolArray, FloatArray
from jmsnas.errors import InfeasibleError
from jmsnas.nas.latency.policy import best_split, remaining_latency_s
from jmsnas.nas.latency.resources import Resource
from jmsnas.nas.split.placement import LatencyTerm, Placement, chain_calls, chain_latency, chain_terms
from jmsnas.nas.split.solve_chain import DeviceLimits
from jmsnas.nas.split.solve_mesh import solve_trunk_and_tail

# The branch and bound for the slowest architecture stops within this factor of the optimum.
BOUND_TOLERANCE = 1.001


@dataclass(frozen=True, slots=True)
class ExpectedLatency:
    """E[T] in seconds at the best split for E[tau], its exact gradient by p (N, R), and that split.

    With free cuts E[T] is the least over cuts of a linear function of p; its gradient is U at the best cuts
    (envelope theorem), so nothing is differentiated through the solver. On a mesh only the slowest branch has
    a gradient, and E[T] is a lower bound: the max of means is at most the mean of the max.
    """

    latency_s: float
    gradient_p_NR: FloatArray
    placement: Placement


@dataclass(frozen=True, slots=True)
class ChainLUT:
    """Latencies of a space on a chain of devices, or on the main path of a mesh (trunk and tail).

    Attributes
    ----------
    U_NRM
        U_n^m(v_i) in seconds; 0 where layer n has no candidate i (see `mask_NR`).
    mask_NR
        True where layer n has a candidate i. Stem and head have one.
    epsilon_LM
        Seconds to send output n over the link behind device m; last column 0.
    moves_LMM
        Seconds to move output n from state a to state b, and to call the device of b where it is another one
        than that of a; infinite where the policy forbids it. Row 0 starts at the first state, row N ends the
        chain.
    sent_LM
        Bytes sent in `epsilon_LM`.
    states
        The device of each state; empty where each device is one state.
    return_M
        Seconds to return the result from device m; empty where it is not returned.
    limits, resources
        Limits on layers, memory and energy per device.
    joint
        On the main path of a mesh: number of layers of the trunk, and of devices up to the root.
    fixed, moved_s
        The placement where the split is fixed, and the seconds of all its moves.
    call_M
        Seconds to call each device; empty where calls cost nothing.
    """

    devices: tuple[str, ...]
    policy: str
    U_NRM: FloatArray
    mask_NR: BoolArray
    epsilon_LM: FloatArray
    moves_LMM: FloatArray
    sent_LM: FloatArray
    states: tuple[int, ...] = ()
    return_M: FloatArray = field(default_factory=lambda: np.zeros(0))
    limits: DeviceLimits | None = None
    resources: tuple[Resource, ...] = ()
    joint: tuple[int, int] | None = None
    fixed: Placement | None = None
    moved_s: float = 0.0
    call_M: FloatArray = field(default_factory=lambda: np.zeros(0))

    @property
    def main_path(self) -> "ChainLUT":
        """The devices in line: all of a chain."""
        return self

    @property
    def main_path_layers(self) -> tuple[int, ...]:
        """Indices of the main path's layers in the space: all."""
        return tuple(range(len(self.U_NRM)))

    @property
    def branch_layers(self) -> tuple[tuple[int, ...], ...]:
        """Indices of the layers of each branch: none."""
        return ()

    @property
    def sent_root_bytes(self) -> float:
        """Bytes from the root of a mesh to a child: none on a chain."""
        return 0.0

    @property
    def U_NRS(self) -> FloatArray:  # noqa: N802
        """U on the device of each state."""
        return self.U_NRM[:, :, list(self.states)] if self.states else self.U_NRM

    @property
    def stops_early(self) -> bool:
        """Whether the result stays where the last layer ran."""
        return self.policy == "stop-early"

    @property
    def calls_M(self) -> FloatArray:  # noqa: N802
        """Seconds to call each device, (M,)."""
        return self.call_M if self.call_M.size else np.zeros(len(self.devices))

    @property
    def limited(self) -> bool:
        """Whether memory or energy can forbid a split of some architecture."""
        return any(resource.binds for resource in self.resources)

    def tau_NM(self, indices: Sequence[int]) -> FloatArray:
        """Seconds of each layer on each device when layer n is candidate `indices[n]`."""
        tau_NM: FloatArray = self.U_NRM[np.arange(len(indices)), list(indices)]
        return tau_NM

    def on_devices(self, path: Placement) -> Placement:
        """Convert a placement over states into one over devices."""
        if not self.states:
            return path
        # A device's cut is that of its last state.
        last = {device: cut for device, cut in zip(self.states, path.cuts, strict=True)}
        return Placement(tuple(last[m] for m in range(len(self.devices))))

    def best_path(self, tau_NM: FloatArray) -> tuple[float, Placement]:
        """Find the least T over splits, ignoring memory and energy, and its placement over STATES."""
        return best_split(tau_NM[:, list(self.states)] if self.states else tau_NM, self.moves_LMM)

    def best_split(self, indices: Sequence[int]) -> tuple[float, Placement]:
        """Find the least T of an architecture over all allowed splits, and its placement.

        Raises InfeasibleError when no split is allowed.
        """
        tau_NM = self.tau_NM(indices)
        latency_s, path = self.best_path(tau_NM)
        placement = self.on_devices(path)
        if self.within_budgets(indices, placement):
            return latency_s, placement
        if self.fixed:
            raise InfeasibleError("the fixed split exceeds a device's memory or energy: use --split joint")
        assert self.limits is not None
        budgets = tuple(resource.budget(indices) for resource in self.resources)
        limits = replace(self.limits, budgets=budgets)
        return_M = self.return_M if self.return_M.size else None
        return solve_trunk_and_tail(
            tau_NM, self.epsilon_LM, self.policy, limits, return_M, self.joint, self.calls_M
        )

    def within_budgets(self, indices: Sequence[int], placement: Placement) -> bool:
        """Whether an architecture under a placement keeps the memory and energy limits of every device."""
        budgets = (r.budget(indices) for r in self.resources if np.isfinite(r.limit_M).any())
        return all(budget.holds(placement, self.stops_early) for budget in budgets)

    def always_within_budgets(self, placement: Placement) -> bool:
        """Whether every architecture under a placement keeps the memory and energy limits."""
        budgets = (resource.maximum() for resource in self.resources if resource.binds)
        return all(budget.holds(placement, self.stops_early) for budget in budgets)

    def return_s(self, placement: Placement) -> float:
        """Seconds to return the result from the device that holds it."""
        return float(self.return_M[self.result_device(placement)]) if self.return_M.size else 0.0

    def result_device(self, placement: Placement) -> int:
        """Index of the device that holds the result."""
        N = placement.cuts[-1]
        return placement.cuts.index(N) if self.stops_early else len(self.devices) - 1

    def latency_s(self, indices: Sequence[int], placement: Placement) -> float:
        """T of equation (1) of an architecture under a placement, with calls and the return; seconds."""
        tau_NM = self.tau_NM(indices)
        latency_s = chain_latency(tau_NM, self.epsilon_LM, placement, self.stops_early, self.calls_M)
        return latency_s + self.return_s(placement)

    def terms(self, indices: Sequence[int], placement: Placement) -> tuple[LatencyTerm, ...]:
        """Terms of equation (1), with memory and energy used, device by device."""
        tau_NM = self.tau_NM(indices)
        tau_s, epsilon_s = chain_terms(tau_NM, self.epsilon_LM, placement, self.stops_early)
        used = {
            resource.kind: resource.budget(indices).used_M(placement, self.stops_early)
            for resource in self.resources
        }
        end, calls_s = self.result_device(placement), chain_calls(placement, self.calls_M)
        return tuple(
            LatencyTerm(
                device,
                tuple(layers),
                tau,
                epsilon,
                float(self.sent_LM[cut, m]) if epsilon else 0.0,
                return_s=self.return_s(placement) if m == end else 0.0,
                memory_bytes=float(used["memory"][m]) if "memory" in used else None,
                energy_j=float(used["energy"][m]) if "energy" in used else None,
                call_s=calls_s[m],
            )
            for m, (device, layers, tau, epsilon, cut) in enumerate(
                zip(self.devices, placement.layers, tau_s, epsilon_s, placement.cuts, strict=True)
            )
        )

    def cloud_only(self, indices: Sequence[int]) -> tuple[float, float]:
        """T in seconds when the last device receives the raw input and runs all layers; bytes of it."""
        M = len(self.devices)
        placement = Placement((0,) * (M - 1) + (len(indices),))
        return self.latency_s(indices, placement), float(self.sent_LM[0, 0])

    def expected(self, p_NR: FloatArray) -> ExpectedLatency:
        """E[T]: equation (1) with E(tau_n^m) = sum_i p_i U_n^m(v_i) (section IV-B), at the best split for p.

        Limits on memory and energy are ignored: they hold for one architecture.
        """
        if self.fixed:
            gradient_p_NR = self._U_NR(self.fixed)
            latency_s = float((p_NR * gradient_p_NR).sum()) + self.moved_s
            return ExpectedLatency(latency_s, gradient_p_NR, self.fixed)
        latency_s, path = self.best_path((p_NR[:, None, :] @ self.U_NRM)[:, 0])
        placement = self.on_devices(path)
        return ExpectedLatency(latency_s, self._U_NR(placement), placement)

    def _U_NR(self, placement: Placement) -> FloatArray:  # noqa: N802
        U_NR: FloatArray = self.U_NRM[np.arange(len(self.U_NRM)), :, list(placement.devices)]
        return U_NR

    def feasible_range_s(self, max_nodes: int = 20_000) -> tuple[float, float]:
        """Find T of the fastest and of the slowest architecture, each under its best split; seconds.

        The least T is exact. The greatest is found by branch and bound within 0.1 %, or is the greatest found
        when the node limit stops it. Limits on memory and energy are ignored. Raises InfeasibleError when the
        policy allows no split.
        """
        U_NRS, masked_NR1 = self.U_NRS, self.mask_NR[:, :, None]
        least_s = self.best_path(np.where(masked_NR1, self.U_NRM, np.inf).min(axis=1))[0]
        remaining_LS = self.slowest_remaining_s()
        counter, greatest_s = itertools.count(), least_s
        queue = [(-float(remaining_LS[0, 0]), next(counter), 0, np.zeros(1))]
        for _ in range(max_nodes):
            if not queue or -queue[0][0] <= greatest_s * BOUND_TOLERANCE:
                break
            _, _, n, reached_S = heapq.heappop(queue)
            arrived_S = (reached_S[:, None] + self.moves_LMM[n, : len(reached_S)]).min(axis=0)
            for i in np.flatnonzero(self.mask_NR[n]):
                ran_S = arrived_S + U_NRS[n, i]
                bound_s = float((ran_S + remaining_LS[n + 1]).min())
                if n + 1 == len(self.mask_NR):
                    greatest_s = max(greatest_s, bound_s)
                elif bound_s > greatest_s:
                    heapq.heappush(queue, (-bound_s, next(counter), n + 1, ran_S))
        return least_s, greatest_s

    def slowest_remaining_s(self) -> FloatArray:
        """Bound the remaining latency after n layers on state s by the slowest candidates; (L, S) seconds."""
        slowest_NS = np.where(self.mask_NR[:, :, None], self.U_NRS, -np.inf).max(axis=1)
        return remaining_latency_s(slowest_NS, self.moves_LMM)

    def slowest_branch_s(self) -> float:
        """Bound the max term of equation (2): 0 on a chain."""
        return 0.0

    def exchanges_s(self, indices: tuple[int, ...], placement: Placement) -> FloatArray:
        """Compute T under the best split when one layer takes another candidate; (N, R) seconds.

        Where memory or energy can forbid a split: T under the given placement.
        """
        rows = np.arange(len(indices))
        if self.limited:
            U_NR = self._U_NR(placement)
            return U_NR - U_NR[rows, list(indices)][:, None] + self.latency_s(indices, placement)
        U_NRS, moves_LSS = self.U_NRS, self.moves_LMM
        tau_NS = U_NRS[rows, list(indices)]
        remaining_LS, reached_S = remaining_latency_s(tau_NS, moves_LSS), np.zeros(1)
        T_NR = np.empty(U_NRS.shape[:2])
        for n in rows:
            arrived_S = (reached_S[:, None] + moves_LSS[n, : len(reached_S)]).min(axis=0)
            T_NR[n] = (arrived_S + U_NRS[n] + remaining_LS[n + 1]).min(axis=1)
            reached_S = arrived_S + tau_NS[n]
        return T_NR
