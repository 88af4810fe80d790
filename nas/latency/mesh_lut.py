"""Latency table of a search space on a mesh: the main path (trunk and tail) as a chain, and the branches.

``T = T(main path) + max over branches`` (equation (2)); each branch runs on one child.
N layers (all of the space), R candidates, M devices, B branches, K children.
"""

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from jmsnas.arrays import BoolArray, FloatArray
from jmsnas.latency import Branch, completion_latency
from jmsnas.nas.latency.chain_lut import BOUND_TOLERANCE, ChainLUT, ExpectedLatency
from jmsnas.nas.latency.resources import Resource
from jmsnas.nas.split.placement import LatencyTerm, Placement
from jmsnas.nas.split.solve_mesh import BranchAssignment, arrivals_s, assign_branches

# Nodes of the branch and bound over branches; each solves an assignment per candidate, about 2 ms in all.
_MAX_ASSIGNMENTS = 1000


@dataclass(frozen=True, slots=True)
class MeshLUT:
    """Latencies of a space on a mesh of devices.

    Attributes
    ----------
    U_NRM, mask_NR
        As of `ChainLUT`, for all layers in the space's order and all devices in the topology's.
    main_path, main_path_layers
        The devices in line as a chain, and the indices of its layers in the space.
    branch_layers
        Indices of the layers of each branch in the space.
    children
        Indices of the children among the devices.
    epsilon_root_K, epsilon_K
        eps^{r->m} and eps^m of each child, seconds; `sent_root_bytes` and `sent_K` are the bytes sent.
    lengths_2K
        Minimum and maximum number of layers of each child.
    resources
        Memory and energy of the children; what each sends is in row 0 of `sent_LM`.
    raw_input
        Cloud only: seconds to send the raw input to the last device, and its bytes.
    call_K
        Seconds to call each child; empty where calls cost nothing.
    """

    devices: tuple[str, ...]
    policy: str
    U_NRM: FloatArray
    mask_NR: BoolArray
    main_path: ChainLUT
    main_path_layers: tuple[int, ...]
    branch_layers: tuple[tuple[int, ...], ...]
    children: tuple[int, ...]
    epsilon_root_K: FloatArray
    epsilon_K: FloatArray
    sent_root_bytes: float
    sent_K: FloatArray
    fan_out: str
    lengths_2K: NDArray[np.int64]
    resources: tuple[Resource, ...]
    raw_input: tuple[float, float]
    call_K: FloatArray = field(default_factory=lambda: np.zeros(0))

    @property
    def beside_K(self) -> FloatArray:  # noqa: N802
        """Seconds of each child in addition to tau once its input has arrived: its call and eps^m."""
        return self.epsilon_K + self.call_K if self.call_K.size else self.epsilon_K

    @property
    def limited(self) -> bool:
        """Whether memory or energy can forbid a split of some architecture."""
        return self.main_path.limited or any(resource.binds for resource in self.resources)

    def allowed_BK(self) -> BoolArray:
        """Whether the limits on layers allow branch b on child k."""
        lengths_B1 = np.array([[len(layers)] for layers in self.branch_layers])
        free_BK: BoolArray = (self.lengths_2K[0] <= lengths_B1) & (lengths_B1 <= self.lengths_2K[1])
        return free_BK

    @property
    def required_K(self) -> BoolArray:  # noqa: N802
        """Whether each child must run a branch, by its minimum number of layers."""
        required_K: BoolArray = self.lengths_2K[0] > 0
        return required_K

    def tau_BK(self, indices: Sequence[int]) -> FloatArray:
        """Latency of each branch on each child in seconds; infinite where a limit forbids it."""
        children = list(self.children)
        taus = [self.U_NRM[list(own), [indices[n] for n in own]] for own in self.branch_layers]
        tau_BK = np.array([tau_NM[:, children].sum(0) for tau_NM in taus])
        free_BK = self.allowed_BK()
        for resource in self.resources:
            if np.isfinite(resource.limit_M).any():
                free_BK &= self._used_BK(resource, indices) <= resource.limit_M * (1 + 1e-12)
        return np.where(free_BK, tau_BK, np.inf)

    def _used_BK(self, resource: Resource, indices: Sequence[int]) -> FloatArray:
        budget = resource.budget(indices)
        use_NM, peak_NM, sent_M = budget.use_NM, budget.peak_NM, budget.sent_LM[0]
        layers = [list(own) for own in self.branch_layers]
        return np.array([use_NM[own].sum(0) + peak_NM[own].max(0, initial=0) + sent_M for own in layers])

    def best_split(self, indices: Sequence[int]) -> tuple[float, Placement]:
        """Find the least T of an architecture over all allowed splits, and its placement.

        Raises InfeasibleError when no split is allowed.
        """
        latency_s, placement = self.main_path.best_split([indices[n] for n in self.main_path_layers])
        found = self.assign_children(self.tau_BK(indices))
        return latency_s + found.latency_s, replace(placement, children=found.children, order=found.order)

    def assign_children(self, tau_BK: FloatArray) -> BranchAssignment:
        """Assign a child to each branch, so that the max term of equation (2) is least.

        Raises InfeasibleError when no assignment is allowed.
        """
        if self.main_path.fixed:  # a fixed split gives branch b to child b
            tau_BK = np.where(np.eye(*tau_BK.shape) > 0, tau_BK, np.inf)
        return assign_branches(
            tau_BK, self.epsilon_root_K, self.beside_K, self.fan_out, required_K=self.required_K
        )

    def branch_ends_s(
        self, tau_BK: FloatArray, chosen: tuple[int, ...], order: tuple[int, ...]
    ) -> FloatArray:
        """Seconds from the start of sending at the root until each branch has reached the join; (B,)."""
        tail_BK = tau_BK + self.beside_K
        arrived_B = arrivals_s(self.epsilon_root_K, chosen, order, self.fan_out)
        ends_B: FloatArray = arrived_B + tail_BK[np.arange(len(chosen)), list(chosen)]
        return ends_B

    def _branches(self, indices: Sequence[int], placement: Placement) -> dict[int, Branch]:
        """Terms of the branches by child, tau without the call.

        With serial fan-out eps^{r->m} includes the copies sent before.
        """
        arrived_B = arrivals_s(self.epsilon_root_K, placement.children, placement.order, self.fan_out)
        found = {}
        for own, k, arrived_s in zip(self.branch_layers, placement.children, arrived_B.tolist(), strict=True):
            tau_s = sum(float(self.U_NRM[n, indices[n], self.children[k]]) for n in own)
            found[k] = Branch(arrived_s, tau_s, float(self.epsilon_K[k]))
        return found

    def latency_s(self, indices: Sequence[int], placement: Placement) -> float:
        """T of equation (2) of an architecture under a placement, seconds."""
        main_path_s = self.main_path.latency_s([indices[n] for n in self.main_path_layers], placement)
        branches = [
            replace(branch, tau_s=branch.tau_s + self._call_s(k))
            for k, branch in self._branches(indices, placement).items()
        ]
        return float(completion_latency([main_path_s], [0.0], 0.0, branches))

    def _call_s(self, k: int) -> float:
        return float(self.call_K[k]) if self.call_K.size else 0.0

    def terms(self, indices: Sequence[int], placement: Placement) -> tuple[LatencyTerm, ...]:
        """Terms of equation (2), with memory and energy used, in the devices' order."""
        main_path = self.main_path.terms([indices[n] for n in self.main_path_layers], placement)
        found = {
            term.device: replace(term, layers=tuple(self.main_path_layers[n - 1] + 1 for n in term.layers))
            for term in main_path
        }
        used = {resource.kind: self._used_BK(resource, indices) for resource in self.resources}
        branches = self._branches(indices, placement)
        for k, m in enumerate(self.children):
            name = self.devices[m]
            found[name] = LatencyTerm(name, (), 0.0, 0.0, 0.0)
            if k in branches:
                b = placement.children.index(k)
                found[name] = LatencyTerm(
                    name,
                    tuple(n + 1 for n in self.branch_layers[b]),
                    branches[k].tau_s,
                    branches[k].epsilon_s,
                    float(self.sent_K[k]),
                    epsilon_root_s=branches[k].epsilon_root_s,
                    memory_bytes=float(used["memory"][b, k]) if "memory" in used else None,
                    energy_j=float(used["energy"][b, k]) if "energy" in used else None,
                    call_s=self._call_s(k),
                )
        return tuple(found[name] for name in self.devices)

    def cloud_only(self, indices: Sequence[int]) -> tuple[float, float]:
        """T in seconds when the last device receives the raw input and runs all layers; bytes of it."""
        tau_s = self.U_NRM[np.arange(len(indices)), list(indices), len(self.devices) - 1].sum()
        return_s = float(self.main_path.return_M[-1]) if self.main_path.return_M.size else 0.0
        called_s = float(self.main_path.calls_M[-1])
        return self.raw_input[0] + called_s + float(tau_s) + return_s, self.raw_input[1]

    def expected(self, p_NR: FloatArray) -> ExpectedLatency:
        """E[T]: equation (2) with E(tau_n^m) = sum_i p_i U_n^m(v_i) (section IV-B), at the best split for p.

        Limits on memory and energy are ignored: they hold for one architecture.
        """
        main_path = self.main_path.expected(p_NR[list(self.main_path_layers)])
        children = list(self.children)
        tau_NK = (p_NR[:, None, :] @ self.U_NRM[:, :, children])[:, 0]
        tau_BK = np.array([tau_NK[list(own)].sum(axis=0) for own in self.branch_layers])
        found = self.assign_children(np.where(self.allowed_BK(), tau_BK, np.inf))
        gradient_p_NR = np.zeros_like(p_NR)
        gradient_p_NR[list(self.main_path_layers)] = main_path.gradient_p_NR
        b = int(self.branch_ends_s(tau_BK, found.children, found.order).argmax())
        own = list(self.branch_layers[b])
        gradient_p_NR[own] = self.U_NRM[own][:, :, children[found.children[b]]]
        placement = replace(main_path.placement, children=found.children, order=found.order)
        return ExpectedLatency(main_path.latency_s + found.latency_s, gradient_p_NR, placement)

    def feasible_range_s(self, max_nodes: int = 20_000) -> tuple[float, float]:
        """Find T of the fastest and of the slowest architecture, each under its best split; see `ChainLUT`.

        Main path and branches add up, each with its own operations.
        """
        least_s, greatest_s = self.main_path.feasible_range_s(max_nodes)
        least_branch_s, greatest_branch_s = self._branch_range_s(min(max_nodes, _MAX_ASSIGNMENTS))
        return least_s + least_branch_s, greatest_s + greatest_branch_s

    def _branch_range_s(self, max_nodes: int) -> tuple[float, float]:
        """Least and greatest latency of the slowest branch under the best assignment of children."""
        order = [(b, n) for b, own in enumerate(self.branch_layers) for n in own]
        U_NRK, most_BK = self.U_NRM[:, :, list(self.children)], self._extreme_BK(np.fmax)
        most_NK = np.where(self.mask_NR[:, :, None], U_NRK, -np.inf).max(axis=1)
        least_s = self.assign_children(self._extreme_BK(np.fmin)).latency_s
        # Of equal bounds the newest first: where another branch is the slowest, all candidates are equal.
        counter, greatest_s = itertools.count(0, -1), least_s
        queue = [(-self.assign_children(most_BK).latency_s, next(counter), 0, most_BK)]
        for _ in range(max_nodes):
            if not queue or -queue[0][0] <= greatest_s * BOUND_TOLERANCE:
                break
            _, _, at, tau_BK = heapq.heappop(queue)
            b, n = order[at]
            for i in np.flatnonzero(self.mask_NR[n]):
                chosen_BK = tau_BK.copy()
                chosen_BK[b] += U_NRK[n, i] - most_NK[n]
                bound_s = self.assign_children(chosen_BK).latency_s
                if at + 1 == len(order):
                    greatest_s = max(greatest_s, bound_s)
                elif bound_s > greatest_s:
                    heapq.heappush(queue, (-bound_s, next(counter), at + 1, chosen_BK))
        return least_s, greatest_s

    def _extreme_BK(self, extreme: np.ufunc) -> FloatArray:
        """Latency of each branch on each child by its fastest (fmin) or slowest (fmax) candidates."""
        U_NRK = np.where(self.mask_NR[:, :, None], self.U_NRM[:, :, list(self.children)], np.nan)
        tau_BK = np.array(
            [extreme.reduce(U_NRK[list(own)], axis=1).sum(axis=0) for own in self.branch_layers]
        )
        return np.where(self.allowed_BK(), tau_BK, np.inf)

    def slowest_branch_s(self) -> float:
        """Bound the max term of equation (2): every branch on its best child, by its slowest candidates."""
        return self.assign_children(self._extreme_BK(np.fmax)).latency_s

    def exchanges_s(self, indices: tuple[int, ...], placement: Placement) -> FloatArray:
        """Compute T, with the same children and order, when a layer takes another candidate; (N, R) s."""
        chosen = tuple(indices[n] for n in self.main_path_layers)
        main_path_NR = self.main_path.exchanges_s(chosen, replace(placement, children=(), order=()))
        main_path_s = float(main_path_NR[0, chosen[0]])
        ends_B = self.branch_ends_s(self.tau_BK(indices), placement.children, placement.order)
        T_NR = np.empty(self.mask_NR.shape)
        T_NR[list(self.main_path_layers)] = main_path_NR + ends_B.max()
        for b, layers in enumerate(self.branch_layers):
            U_LR = self.U_NRM[list(layers), :, self.children[placement.children[b]]]
            taken_L1 = U_LR[np.arange(len(layers)), [indices[n] for n in layers]][:, None]
            others_s = np.delete(ends_B, b).max(initial=0.0)
            T_NR[list(layers)] = main_path_s + np.maximum(ends_B[b] - taken_L1 + U_LR, others_s)
        return T_NR
