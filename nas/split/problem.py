"""What a fixed network costs over given devices and links: all that `jmsnas split` decides on.

N units (layers), M devices, L = N + 1 outputs (output 0 is the raw input). Seconds, bytes, watts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from jmsnas.device import Device
from jmsnas.errors import InputError, TopologyError
from jmsnas.nas.graph.fork_join import ForkJoin, MeshTree, find_fork_join
from jmsnas.nas.split.dag import Dag, articulation_points, make_dag
from jmsnas.nas.split.links import Array, LinkArrays, link_arrays, refuse_unreachable
from jmsnas.nas.split.solve_chain import DeviceLimits, ResourceBudget
from jmsnas.topology import Link


@dataclass(frozen=True, slots=True)
class SplitProblem:
    """Costs of a network; the first device holds the raw input, the last one is the cloud.

    Attributes
    ----------
    tau_NM, low_NM, high_NM
        Seconds of unit n on device m, and an interval; equal where no interval is known. Infinite where it
        cannot run.
    out_bytes_N
        Bytes of each output as float32.
    input_bytes
        Bytes of the raw input by encoding (`uint8`, `float32`, `jpeg`).
    takes
        For each unit the outputs it takes (see `Dag`).
    weight_bytes_N, peak_bytes_N
        What a unit fills of a device's memory while it waits, and beside that while it runs.
    simulated
        Devices whose seconds are a roofline of published figures.
    published
        Devices whose seconds are U(.) of a table that others published.
    basis
        For each device what its seconds rest on, in words.
    tree
        The tree of a mesh; with it a network that forks once is split by equation (2).
    returns
        Whether the result goes back to the first device, over the same links the other way. Its seconds are
        part of T, not of the period or of the joules.
    """

    network: str
    units: tuple[str, ...]
    devices: tuple[Device, ...]
    tau_NM: Array
    low_NM: Array
    high_NM: Array
    output_bytes_N: Array
    input_bytes: Mapping[str, float]
    links: tuple[Link, ...]
    inputs: tuple[tuple[int, ...], ...]
    weight_bytes_N: Array
    peak_bytes_N: Array
    simulated: tuple[str, ...] = ()
    published: tuple[str, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    tree: MeshTree | None = None
    returns: bool = False

    def __post_init__(self) -> None:
        """Refuse costs that are not of these units and devices, or links that do not join these devices."""
        N, M = len(self.units), len(self.devices)
        shapes = [array.shape for array in (self.tau_NM, self.low_NM, self.high_NM)]
        if set(shapes) != {(N, M)} or self.output_bytes_N.shape != (N,) or len(self.inputs) != N:
            raise InputError(
                f"costs of {self.network}: got times {self.tau_NM.shape} and "
                f"{len(self.output_bytes_N)} sizes, "
                f"expected one a unit and device ({N}, {M}) and {N}"
            )
        if not (self.tau_NM >= 0).all() or not (self.output_bytes_N >= 0).all():
            raise InputError(f"costs of {self.network} hold a time or size below 0: expected 0 or more")
        refuse_unreachable(self.arrays, self.names)

    @property
    def N(self) -> int:
        """Number of units."""
        return len(self.units)

    @property
    def M(self) -> int:
        """Number of devices."""
        return len(self.devices)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the devices."""
        return tuple(device.name for device in self.devices)

    @property
    def arrays(self) -> LinkArrays:
        """The links as arrays. Raises NetworkError."""
        return link_arrays(self.names, self.links)

    @property
    def is_chain(self) -> bool:
        """Whether each unit takes just what the one before it gives."""
        return all(outputs == (n,) for n, outputs in enumerate(self.inputs))

    @property
    def is_chain_topology(self) -> bool:
        """Whether the devices stand in line, each linked to the next and to no other."""
        hops = {(link.source, link.target) for link in self.links}
        return hops == set(zip(self.names, self.names[1:], strict=False))

    @property
    def fork(self) -> ForkJoin | None:
        """Trunk, branches and tail, where the devices are a mesh and the network has a branch for a child."""
        found = find_fork_join(self.inputs) if self.tree else None
        fits = found and self.tree and len(found.branches) <= len(self.tree.children)
        return found if fits else None

    def sent_bytes_L(self, encoding: str) -> Array:
        """Bytes of each output as float32, the raw input (row 0) as it is encoded. Raises InputError."""
        if encoding not in self.input_bytes:
            raise InputError(
                f"the size of a raw input as {encoding} is not known: expected --input "
                f"{' or '.join(self.input_bytes)}"
            )
        return np.concatenate([[self.input_bytes[encoding]], self.output_bytes_N])

    def epsilon_LM(self, encoding: str) -> Array:
        """Seconds to send output n over the link behind device m of a line; last column 0."""
        sent_bytes_L, arrays = self.sent_bytes_L(encoding), self.arrays
        epsilon_LM = np.zeros((self.N + 1, self.M))
        for m in range(self.M - 1):
            epsilon_LM[:, m] = arrays.delay_MM[m, m + 1] + sent_bytes_L * arrays.per_byte_MM[m, m + 1]
            epsilon_LM[0, m] = arrays.epsilon_MM(float(sent_bytes_L[0]), True)[m, m + 1]
        return epsilon_LM

    @property
    def back_M(self) -> Array:  # noqa: N802
        """Seconds to bring the result from each device back to the first; 0 where it does not go back."""
        if not self.returns:
            return np.zeros(self.M)
        back_M: Array = self.arrays.routed_MM(float(self.output_bytes_N[-1]))[0][0]
        return back_M

    def limits(self, encoding: str, policy: str, min_layers: int = 0) -> DeviceLimits:
        """Layers, memory and joules a device of a line may spend; `min_layers` of them on the first one."""
        N, M = self.N, self.M
        least = [device.min_layers for device in self.devices]
        least[0] = max(least[0], min_layers)
        most = [N if device.max_layers is None else device.max_layers for device in self.devices]
        memory = ResourceBudget(
            np.repeat(self.weight_bytes_N[:, None], M, axis=1),
            np.repeat(self.peak_bytes_N[:, None], M, axis=1),
            np.zeros((N + 1, M)),
            np.array([np.inf if d.memory_bytes is None else d.memory_bytes for d in self.devices]),
        )
        energy = ResourceBudget(
            self.joules_NM,
            np.zeros((N, M)),
            self.epsilon_LM(encoding) * self.send_power_w_M,
            np.array([np.inf if d.energy_j is None else d.energy_j for d in self.devices]),
        )
        budgets = tuple(its for its in (memory, energy) if np.isfinite(its.limit_M).any())
        return DeviceLimits(np.array(least), np.array(most), budgets)

    @property
    def limited(self) -> bool:
        """Whether any device states a limit."""
        limits = ((d.memory_bytes, d.energy_j, d.max_layers, d.min_layers or None) for d in self.devices)
        return any(limit is not None for its in limits for limit in its)

    @property
    def power_w_M(self) -> Array:
        """Watts of each device while it computes; 0 where they are not known."""
        return np.array([device.power_w or 0.0 for device in self.devices])

    @property
    def send_power_w_M(self) -> Array:
        """Watts of each device while it sends; 0 where they are not known."""
        return np.array([device.send_power_w or 0.0 for device in self.devices])

    @property
    def joules_NM(self) -> Array:
        """Joules of each unit on each device: 0 without watts, infinite where it cannot run."""
        watts_NM = np.broadcast_to(self.power_w_M, self.tau_NM.shape)
        runs_NM = np.isfinite(self.tau_NM)
        return np.multiply(self.tau_NM, watts_NM, out=np.full_like(self.tau_NM, np.inf), where=runs_NM)

    @property
    def unpowered(self) -> tuple[str, ...]:
        """Devices whose watts nobody said: their joules count as 0."""
        return tuple(device.name for device in self.devices if device.power_w is None)

    def dag(self, encoding: str) -> Dag:
        """The network and the ways between the devices as `solve_dag` takes them."""
        return make_dag(self.tau_NM, self.sent_bytes_L(encoding), self.arrays, self.inputs)


def with_link_rate(costs: SplitProblem, rate_bps: float, link: int = 0) -> SplitProblem:
    """Give the same costs where one link has another rate. Raises NetworkError."""
    if not costs.links:
        raise TopologyError(f"{costs.network} has no link: expected two or more devices, to change a rate")
    links = list(costs.links)
    links[link] = replace(links[link], capacity_bps=rate_bps)
    return replace(costs, links=tuple(links))


def as_chain(costs: SplitProblem) -> tuple[SplitProblem, tuple[int, ...]]:
    """Join the units between outputs that all passes through, so that the network is a chain.

    Returns
    -------
    The costs of the chain, and how many units each of its layers holds.
    """
    if costs.is_chain:
        return costs, (1,) * costs.N
    ends = articulation_points(Dag(costs.tau_NM, np.zeros((costs.N + 1, costs.M, costs.M)), costs.inputs))
    starts, stops = np.array(ends[:-1]), np.array(ends[1:])
    counts = tuple(int(count) for count in stops - starts)
    names = tuple(
        costs.units[start] if count == 1 else f"{costs.units[start]} to {costs.units[start + count - 1]}"
        for start, count in zip(starts.tolist(), counts, strict=True)
    )
    joined = replace(
        costs,
        units=names,
        tau_NM=np.add.reduceat(costs.tau_NM, starts),
        low_NM=np.add.reduceat(costs.low_NM, starts),
        high_NM=np.add.reduceat(costs.high_NM, starts),
        output_bytes_N=costs.output_bytes_N[stops - 1],
        inputs=tuple((n,) for n in range(len(counts))),
        weight_bytes_N=np.add.reduceat(costs.weight_bytes_N, starts),
        peak_bytes_N=np.maximum.reduceat(costs.peak_bytes_N, starts),
    )
    return joined, counts
