"""A search and `jmsnas split` count T by separate code: of calls, delays and the way back they agree."""

from dataclasses import replace

import numpy as np
import pytest
from roofline_predictor import Roofline

from jmsnas.nas.graph.fork_join import fork_join_inputs, mesh_tree
from jmsnas.nas.latency.build_lut import LatencyLUT, build_lut
from jmsnas.nas.split.methods import SplitRequest, split
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.profiler.simulation.roofline import load_simulated_device
from jmsnas.space import SearchSpace
from jmsnas.space_file import load_space
from jmsnas.topology import Topology, load_topology


def with_costs(topology: Topology, seed: int) -> Topology:
    """Give every device a call of up to 3 ms, every link a delay of up to 1 ms."""
    rng = np.random.default_rng(seed)
    devices = tuple(replace(device, call_s=float(rng.uniform(0, 3e-3))) for device in topology.devices)
    links = tuple(replace(link, delay_s=float(rng.uniform(0, 1e-3))) for link in topology.links)
    return replace(topology, devices=devices, links=links, returns=bool(seed % 2))


def problem_of(
    space: SearchSpace, topology: Topology, lut: LatencyLUT, indices: tuple[int, ...]
) -> SplitProblem:
    """The split problem of one architecture, from the seconds of the latency table."""
    tau_NM = lut.U_NRM[np.arange(space.N), list(indices)]
    chain = tuple((n,) for n in range(space.N))
    branches = [list(own) for own in space.branches]
    return SplitProblem(
        model="random",
        units=tuple(map(str, range(space.N))),
        devices=topology.devices,
        tau_NM=tau_NM,
        low_NM=tau_NM,
        high_NM=tau_NM,
        output_bytes_N=np.array([4.0 * layer.output_elements for layer in space.layers]),
        input_bytes={"uint8": float(space.input_elements)},
        links=topology.links,
        inputs=fork_join_inputs(space.N, branches) if branches else chain,
        weight_bytes_N=np.zeros(space.N),
        peak_bytes_N=np.zeros(space.N),
        tree=mesh_tree(topology),
        returns=topology.returns,
        join="sum" if branches else "",
    )


@pytest.mark.parametrize("policy", ["strict", "relay", "stop-early"])
@pytest.mark.parametrize(
    ("name", "fan_out"), [("chain", "broadcast"), ("mesh", "broadcast"), ("mesh", "serial")]
)
def test_t_of_a_search_is_t_of_a_split(name: str, fan_out: str, policy: str) -> None:
    base = replace(load_topology(name), policy=policy, fan_out=fan_out)
    space = load_space("digits", branches=len(base.children)) if base.children else load_space("digits")
    for seed in range(2):
        topology, rng = with_costs(base, seed), np.random.default_rng(seed)
        predictors = {d.name: Roofline(load_simulated_device(d.table)) for d in topology.devices}
        lut = build_lut(space, topology, predictors)
        indices = tuple(int(rng.choice(np.flatnonzero(row))) for row in lut.mask_NR)
        problem = problem_of(space, topology, lut, indices)
        found = split(problem, SplitRequest("uint8", policy))
        assert found.proven and found.timeline.latency_s == pytest.approx(
            lut.best_split(indices)[0], rel=1e-9
        )
        if fan_out == "broadcast":
            cloud_s = split(problem, SplitRequest("uint8", "relay", method="cloud")).timeline.latency_s
            assert cloud_s == pytest.approx(lut.cloud_only(indices)[0], rel=1e-9)
