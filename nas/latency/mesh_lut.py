"""U(.) of a space on a mesh: a line of devices (trunk up to the root, tail behind the join) and the branches.

``T = T(line) + max over branches`` (equation (2)): the line is a chain, and each branch runs on one child.
N layers (all of the space), R candidates, M devices, B branches, K children.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from jmsnas.latency import Branch, completion_latency
from jmsnas.nas.latency.chain_lut import ChainLUT
from jmsnas.nas.latency.resources import Resource
from jmsnas.nas.split.placement import LatencyTerm, Placement
from jmsnas.nas.split.solve_mesh import arrivals_s, assign_branches


@dataclass(frozen=True, slots=True)
class MeshLUT:
    """Latencies of a space on a mesh of devices.

    Attributes
    ----------
    U_NRM, mask_NR
        As of `ChainLUT`, for all layers in the space's order and all devices in the network's.
    line, line_layers
        The line as a chain, and the places of its layers in the space.
    branch_layers
        The places of each branch's layers in the space.
    children
        Places of the children among the devices.
    epsilon_root_K, epsilon_K
        eps^{r->m} and eps^m of each child, seconds; `sent_root_bytes` and `sent_K` the bytes behind them.
    lengths_2K
        How many layers each child runs at least and at most.
    resources
        Memory and energy of the children; what each sends is in row 0 of `sent_LM`.
    raw_input
        Cloud only: seconds to bring the raw input to the last device, and its bytes.
    """

    devices: tuple[str, ...]
    policy: str
    U_NRM: NDArray[np.float64]
    mask_NR: NDArray[np.bool_]
    main_path: ChainLUT
    main_path_layers: tuple[int, ...]
    branch_layers: tuple[tuple[int, ...], ...]
    children: tuple[int, ...]
    epsilon_root_K: NDArray[np.float64]
    epsilon_K: NDArray[np.float64]
    sent_root_bytes: float
    sent_K: NDArray[np.float64]
    fan_out: str
    lengths_2K: NDArray[np.int64]
    resources: tuple[Resource, ...]
    raw_input: tuple[float, float]

    @property
    def limited(self) -> bool:
        """Whether memory or energy can forbid a split, depending on the operations."""
        return self.main_path.limited or any(resource.binds for resource in self.resources)

    def allowed_BK(self) -> NDArray[np.bool_]:
        """Whether branch b has as many layers as child k may run."""
        lengths_B1 = np.array([[len(layers)] for layers in self.branch_layers])
        free_BK: NDArray[np.bool_] = (self.lengths_2K[0] <= lengths_B1) & (lengths_B1 <= self.lengths_2K[1])
        return free_BK

    def tau_BK(self, indices: Sequence[int]) -> NDArray[np.float64]:
        """Seconds of each branch on each child; infinite where a limit forbids it."""
        children = list(self.children)
        tau_BK = np.array(
            [
                self.U_NRM[list(own), [indices[n] for n in own]][:, children].sum(0)
                for own in self.branch_layers
            ]
        )
        free_BK = self.allowed_BK()
        for resource in self.resources:
            if np.isfinite(resource.limit_M).any():
                free_BK &= self._used_BK(resource, indices) <= resource.limit_M * (1 + 1e-12)
        return np.where(free_BK, tau_BK, np.inf)

    def _used_BK(self, resource: Resource, indices: Sequence[int]) -> NDArray[np.float64]:
        budget = resource.budget(indices)
        return np.array(
            [
                budget.use_NM[list(own)].sum(0)
                + budget.peak_NM[list(own)].max(0, initial=0)
                + budget.sent_LM[0]
                for own in self.branch_layers
            ]
        )

    def best(self, indices: Sequence[int]) -> tuple[float, Placement]:
        """Find the least T of an architecture over all splits that are allowed, and one that reaches it.

        Raises TargetError when none is.
        """
        latency_s, placement = self.main_path.best([indices[n] for n in self.main_path_layers])
        slowest_s, children = self.best_children(self.tau_BK(indices))
        return latency_s + slowest_s, replace(placement, children=children)

    def best_children(self, tau_BK: NDArray[np.float64]) -> tuple[float, tuple[int, ...]]:
        """Give each branch its child; the max term of equation (2), seconds. Raises TargetError."""
        if self.main_path.fixed:  # a fixed split gives branch b to child b
            tau_BK = np.where(np.eye(*tau_BK.shape) > 0, tau_BK, np.inf)
        return assign_branches(tau_BK, self.epsilon_root_K, self.epsilon_K, self.fan_out)

    def ends_s(self, tau_BK: NDArray[np.float64], chosen: tuple[int, ...]) -> NDArray[np.float64]:
        """Seconds until each branch is at the join, from when the root begins to send; (B,)."""
        ends_BK = arrivals_s(self.epsilon_root_K, chosen, self.fan_out) + tau_BK + self.epsilon_K
        ends_B: NDArray[np.float64] = ends_BK[np.arange(len(chosen)), list(chosen)]
        return ends_B

    def _branches(self, indices: Sequence[int], placement: Placement) -> dict[int, Branch]:
        """Terms of the branches by child; with serial fan-out eps^{r->m} counts the copies before it."""
        arrived_K = arrivals_s(self.epsilon_root_K, placement.children, self.fan_out)
        found = {}
        for own, k in zip(self.branch_layers, placement.children, strict=True):
            tau_s = sum(float(self.U_NRM[n, indices[n], self.children[k]]) for n in own)
            found[k] = Branch(float(arrived_K[k]), tau_s, float(self.epsilon_K[k]))
        return found

    def latency_s(self, indices: Sequence[int], placement: Placement) -> float:
        """T of equation (2) of an architecture under a placement, seconds."""
        line_s = self.main_path.latency_s([indices[n] for n in self.main_path_layers], placement)
        return float(
            completion_latency([line_s], [0.0], 0.0, list(self._branches(indices, placement).values()))
        )

    def terms(self, indices: Sequence[int], placement: Placement) -> tuple[LatencyTerm, ...]:
        """Every term of equation (2), in the devices' order, and what it takes of each device."""
        line = self.main_path.terms([indices[n] for n in self.main_path_layers], placement)
        found = {
            term.device: replace(term, layers=tuple(self.main_path_layers[n - 1] + 1 for n in term.layers))
            for term in line
        }
        used = {resource.what: self._used_BK(resource, indices) for resource in self.resources}
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
                )
        return tuple(found[name] for name in self.devices)

    def cloud_only(self, indices: Sequence[int]) -> tuple[float, float]:
        """T when the last device gets the raw input and runs everything, seconds, and the bytes of it."""
        tau_s = self.U_NRM[np.arange(len(indices)), list(indices), len(self.devices) - 1].sum()
        back_s = float(self.main_path.return_M[-1]) if self.main_path.return_M.size else 0.0
        return self.raw_input[0] + float(tau_s) + back_s, self.raw_input[1]
