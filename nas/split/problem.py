"""The split problem: latencies and sizes of a given model's units over given devices and links.

N units (layers), M devices, L = N + 1 outputs (output 0 is the raw input). Seconds, bytes, watts.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from jmsnas.arrays import FloatArray
from jmsnas.device import Device
from jmsnas.errors import InputError, TopologyError
from jmsnas.nas.graph.fork_join import ForkJoin, MeshTree, find_fork_join
from jmsnas.nas.split.dag import Dag, articulation_points, make_dag
from jmsnas.nas.split.links import LinkArrays, link_arrays, refuse_unreachable
from jmsnas.nas.split.shared_weights import SharedWeight, regroup, repeated_bytes
from jmsnas.nas.split.solve_chain import DeviceLimits, ResourceBudget
from jmsnas.topology import Link


@dataclass(frozen=True, slots=True)
class SplitProblem:
    """A model and the devices to split it over; the first holds the raw input, the last is the cloud.

    Attributes
    ----------
    tau_NM, low_NM, high_NM
        Seconds of unit n on device m, with an interval (equal where no interval is known); infinite where it
        cannot run.
    output_bytes_N
        Bytes of each output, as a link of wire float32 carries it.
    input_bytes
        Bytes of the raw input by encoding (`uint8`, `float32`, `jpeg`); the last but `jpeg` is the model's.
    inputs
        For each unit the outputs it reads (see `Dag`).
    weight_bytes_N, peak_bytes_N
        Memory of a unit while it is loaded, and in addition while it runs.
    shared_weights
        Weights that several units hold, each in `weight_bytes_N` of all of them.
    batch
        Images of one call: T, the period and the energy are of so many.
    simulated
        Devices whose latencies are a roofline of published figures.
    published
        Devices whose latencies are U(.) of a published table.
    provenance
        For each device a summary of where its latencies come from.
    tree
        The tree of a mesh; with it a model that forks once is split by equation (2).
    returns
        Whether the result is sent back to the first device, over the same links in reverse. This adds to T,
        not to the period or the energy.
    join
        How the first layer of the tail joins the outputs of parallel branches on a mesh: `sum`, `concat`, or
        empty: a sum of outputs of one size, otherwise a concatenation.
    """

    model: str
    units: tuple[str, ...]
    devices: tuple[Device, ...]
    tau_NM: FloatArray
    low_NM: FloatArray
    high_NM: FloatArray
    output_bytes_N: FloatArray
    input_bytes: Mapping[str, float]
    links: tuple[Link, ...]
    inputs: tuple[tuple[int, ...], ...]
    weight_bytes_N: FloatArray
    peak_bytes_N: FloatArray
    simulated: tuple[str, ...] = ()
    published: tuple[str, ...] = ()
    extrapolated: tuple[str, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    tree: MeshTree | None = None
    returns: bool = False
    shared_weights: tuple[SharedWeight, ...] = ()
    batch: int = 1
    join: str = ""

    def __post_init__(self) -> None:
        """Refuse arrays of other shapes, negative values, and devices that no route leads to."""
        N, M = len(self.units), len(self.devices)
        shapes = [array.shape for array in (self.tau_NM, self.low_NM, self.high_NM)]
        if set(shapes) != {(N, M)} or self.output_bytes_N.shape != (N,) or len(self.inputs) != N:
            raise InputError(
                f"costs of {self.model}: got times {self.tau_NM.shape} and {len(self.output_bytes_N)} sizes, "
                f"expected one per unit and device ({N}, {M}) and {N}"
            )
        if not (self.tau_NM >= 0).all() or not (self.output_bytes_N >= 0).all():
            raise InputError(f"costs of {self.model} hold a time or size below 0: expected 0 or more")
        refuse_unreachable(self.link_arrays, self.names)

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
    def link_arrays(self) -> LinkArrays:
        """The links as arrays. Raises TopologyError."""
        return link_arrays(self.names, self.links)

    @property
    def call_M(self) -> FloatArray:  # noqa: N802
        """Seconds to call each device, where it runs any unit."""
        return np.array([device.call_s for device in self.devices])

    @property
    def is_chain(self) -> bool:
        """Whether the model is a chain: each unit reads the output of the one before it only."""
        return all(outputs == (n,) for n, outputs in enumerate(self.inputs))

    @property
    def is_chain_topology(self) -> bool:
        """Whether the devices form a chain, each linked to the next and to no other."""
        hops = {(link.source, link.target) for link in self.links}
        return hops == set(zip(self.names, self.names[1:], strict=False))

    @property
    def fork(self) -> ForkJoin | None:
        """Trunk, branches and tail, where the devices are a mesh with a child for each branch; else None."""
        found = find_fork_join(self.inputs) if self.tree else None
        fits = found and self.tree and len(found.branches) <= len(self.tree.children)
        return found if fits else None

    @property
    def join_device(self) -> int:
        """Index of the device of a mesh that the children send to, and that joins the branches."""
        assert self.tree, "expected a mesh"
        root, names = self.names.index(self.tree.root), self.names
        return next(m for m in range(root + 1, self.M) if names[m] not in self.tree.children)

    @property
    def joined_bytes(self) -> float:
        """Bytes of the joined outputs of the branches of a mesh, as float32; 0 without branches."""
        branches = self.fork.branches if self.fork else ()
        sizes = [float(self.output_bytes_N[branch[-1]]) for branch in branches]
        concatenated = self.join == "concat" or (not self.join and len(set(sizes)) > 1)
        return sum(sizes) if concatenated else max(sizes, default=0.0)

    def sent_bytes_L(self, encoding: str) -> FloatArray:
        """Bytes of each output as float32, the raw input (row 0) as it is encoded. Raises InputError."""
        if encoding not in self.input_bytes:
            raise InputError(
                f"the size of a raw input as {encoding} is not known: expected --input "
                f"{' or '.join(self.input_bytes)}"
            )
        return np.concatenate([[self.input_bytes[encoding]], self.output_bytes_N])

    def known_encoding(self, encoding: str) -> str:
        """Return an encoding that the raw input may be sent in: this one, else that of the model's input."""
        return encoding if encoding in self.input_bytes else [k for k in self.input_bytes if k != "jpeg"][-1]

    def epsilon_LM(self, encoding: str) -> FloatArray:
        """Seconds to send output n over the link after device m of a chain; last column 0."""
        sent_bytes_L, arrays = self.sent_bytes_L(encoding), self.link_arrays
        epsilon_LM = np.zeros((self.N + 1, self.M))
        for m in range(self.M - 1):
            epsilon_LM[:, m] = arrays.delay_MM[m, m + 1] + sent_bytes_L * arrays.per_byte_MM[m, m + 1]
            epsilon_LM[0, m] = arrays.epsilon_MM(float(sent_bytes_L[0]), True)[m, m + 1]
        return epsilon_LM

    @property
    def return_M(self) -> FloatArray:  # noqa: N802
        """Seconds to send the result from each device back to the first; 0 where it is not sent back."""
        if not self.returns:
            return np.zeros(self.M)
        return_M: FloatArray = self.link_arrays.routed_MM(float(self.output_bytes_N[-1]))[0][0]
        return return_M

    def limits(self, encoding: str, min_layers: int = 0) -> DeviceLimits:
        """Limits of layers, memory and energy of a chain of devices; at least `min_layers` on the first."""
        N, M = self.N, self.M
        least = [device.min_layers for device in self.devices]
        least[0] = max(least[0], min_layers)
        most = [N if device.max_layers is None else device.max_layers for device in self.devices]
        memory = ResourceBudget(
            use_NM=np.repeat(self.weight_bytes_N[:, None], M, axis=1),
            peak_NM=np.repeat(self.peak_bytes_N[:, None], M, axis=1),
            sent_LM=np.zeros((N + 1, M)),
            limit_M=np.array([np.inf if d.memory_bytes is None else d.memory_bytes for d in self.devices]),
            shared=self.shared_weights,
        )
        energy = ResourceBudget(
            use_NM=self.joules_NM,
            peak_NM=np.zeros((N, M)),
            sent_LM=self.epsilon_LM(encoding) * self.send_power_w_M,
            limit_M=np.array([np.inf if d.energy_j is None else d.energy_j for d in self.devices]),
        )
        budgets = tuple(budget for budget in (memory, energy) if np.isfinite(budget.limit_M).any())
        return DeviceLimits(np.array(least), np.array(most), budgets)

    def held_bytes(self, units: Collection[int]) -> float:
        """Bytes of the weights of these units (by index) on one device; of a shared weight once."""
        return float(self.weight_bytes_N[list(units)].sum()) - repeated_bytes(self.shared_weights, units)

    @property
    def has_limits(self) -> bool:
        """Whether any device has a limit."""
        limits = ((d.memory_bytes, d.energy_j, d.max_layers, d.min_layers or None) for d in self.devices)
        return any(limit is not None for own in limits for limit in own)

    @property
    def power_w_M(self) -> FloatArray:
        """Watts of each device while it computes; 0 where unknown."""
        return np.array([device.power_w or 0.0 for device in self.devices])

    @property
    def send_power_w_M(self) -> FloatArray:
        """Watts of each device while it sends; 0 where unknown."""
        return np.array([device.send_power_w or 0.0 for device in self.devices])

    @property
    def joules_NM(self) -> FloatArray:
        """Joules of each unit on each device: 0 where the power is unknown, infinite where it cannot run."""
        watts_NM = np.broadcast_to(self.power_w_M, self.tau_NM.shape)
        runs_NM = np.isfinite(self.tau_NM)
        return np.multiply(self.tau_NM, watts_NM, out=np.full_like(self.tau_NM, np.inf), where=runs_NM)

    @property
    def unpowered(self) -> tuple[str, ...]:
        """Devices of unknown power, whose energy counts as 0."""
        return tuple(device.name for device in self.devices if device.power_w is None)

    def dag(self, encoding: str) -> Dag:
        """The problem as a DAG, for `solve_dag`."""
        return make_dag(self.tau_NM, self.sent_bytes_L(encoding), self.link_arrays, self.inputs, self.call_M)


def with_link_rate(problem: SplitProblem, rate_bps: float, link: int = 0) -> SplitProblem:
    """Copy the problem with another rate of one link. Raises TopologyError."""
    if not problem.links:
        raise TopologyError(
            f"{problem.model} has no link: expected two devices or more, to change the rate of a link"
        )
    links = list(problem.links)
    links[link] = replace(links[link], capacity_bps=rate_bps, measured=None)
    return replace(problem, links=tuple(links))


def as_chain(problem: SplitProblem) -> tuple[SplitProblem, tuple[int, ...]]:
    """Merge the units between articulation points into layers, so that the model is a chain.

    Returns the chain's problem, and the number of units in each of its layers.
    """
    if problem.is_chain:
        return problem, (1,) * problem.N
    ends = articulation_points(
        Dag(
            problem.tau_NM,
            np.zeros((problem.N + 1, problem.M, problem.M)),
            problem.inputs,
            np.zeros(problem.M),
        )
    )
    starts, stops = np.array(ends[:-1]), np.array(ends[1:])
    counts = tuple(int(count) for count in stops - starts)
    layers = [range(start, stop) for start, stop in zip(ends, ends[1:], strict=False)]
    names = tuple(
        problem.units[start]
        if count == 1
        else f"{problem.units[start]} to {problem.units[start + count - 1]}"
        for start, count in zip(starts.tolist(), counts, strict=True)
    )
    joined = replace(
        problem,
        units=names,
        tau_NM=np.add.reduceat(problem.tau_NM, starts),
        low_NM=np.add.reduceat(problem.low_NM, starts),
        high_NM=np.add.reduceat(problem.high_NM, starts),
        output_bytes_N=problem.output_bytes_N[stops - 1],
        inputs=tuple((n,) for n in range(len(counts))),
        weight_bytes_N=np.array([problem.held_bytes(units) for units in layers]),
        shared_weights=regroup(problem.shared_weights, layers),
        peak_bytes_N=np.maximum.reduceat(problem.peak_bytes_N, starts),
    )
    return joined, counts
