"""Split methods of others, each as its paper has it, over the same costs; each gives a device for each unit.

* cloud, device: everything on the last device, or on the first.
* neurosurgeon (Kang et al., ASPLOS 2017, section 5): two devices, the best single cut of N + 1, by latency or
  by the energy of the device.
* dads (Hu et al., INFOCOM 2019, lightly loaded): two devices, a DAG; the minimum cut of a graph whose cuts
are
  the sums of edge time, transmission and cloud time.
* hivemind (Wang et al., JSAC 2021): several cuts of a chain over devices in line as a path of least cost.
"""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, dijkstra, maximum_flow

from jmsnas.errors import TopologyError
from jmsnas.nas.split.problem import SplitProblem, as_chain
from jmsnas.nas.split.timeline import timeline

# scipy's flows are 32-bit integers: the whole of a network's cost in units of this share of it.
_UNITS = 2**30


def expand_to_units(devices: Sequence[int], counts: Sequence[int]) -> tuple[int, ...]:
    """Give every unit the device of the stretch it belongs to (see `chained`)."""
    return tuple(m for m, count in zip(devices, counts, strict=True) for _ in range(count))


def neurosurgeon(costs: SplitProblem, encoding: str, objective: str, target: int | None) -> tuple[int, ...]:
    """Try all cuts between the first and the last device; a network with branches is cut at its waists.

    `objective` is `latency` or `energy` (joules of the devices whose watts are known). Raises NetworkError.
    """
    chain, counts = as_chain(costs)
    plans = [(0,) * k + (chain.M - 1,) * (chain.N - k) for k in range(chain.N + 1)]
    told = [timeline(chain, encoding, plan, target) for plan in plans]
    if objective == "energy":
        joules = [np.inf if its.energy_j is None else its.energy_j for its in told]
        best = min(range(len(plans)), key=lambda k: joules[k])
    else:
        best = min(range(len(plans)), key=lambda k: told[k].latency_s)
    return expand_to_units(plans[best], counts)


def dads(costs: SplitProblem, encoding: str, target: int | None) -> tuple[int, ...]:
    """Find the minimum cut between the first and the last device: who is cut from the source runs far away.

    An output that several units take is sent once: an auxiliary node stands behind each unit (section IV-B).
    The result is sent too where it is needed far away.
    """
    dag = costs.dag(encoding)
    far, N = costs.M - 1, costs.N
    source, sink = 0, 2 * N + 2
    edges: list[tuple[int, int, float]] = []
    for n in range(1, N + 1):
        edges += [(source, n, float(dag.tau_NM[n - 1, far])), (n, sink, float(dag.tau_NM[n - 1, 0]))]
    for i in range(N + 1):
        takers = [n for n, outputs in enumerate(dag.inputs, 1) if i in outputs]
        behind, seconds = N + 1 + i, float(dag.routed_LMM[i, 0, far])
        edges.append((source if i == 0 else i, behind, seconds))
        edges += [(behind, n, np.inf) for n in takers]
        # What runs far away is not sent back: an output made there is not taken here.
        edges += [(n, i, np.inf) for n in takers if i > 0]
    if target is not None:
        edges.append((N, sink, float(dag.routed_LMM[N, 0, far])))
    else:
        edges.append((source, N, float(costs.back_M[far])))
    total = sum(seconds for _, _, seconds in edges if np.isfinite(seconds))
    scale = _UNITS / total if total else 1.0
    capacity = {(a, b): 0 for a, b, _ in edges}
    for a, b, seconds in edges:
        capacity[a, b] = min(2**31 - 1, capacity[a, b] + round(min(seconds * scale, 2**30)))
    rows, columns = zip(*capacity, strict=True)
    graph = coo_array(
        (np.array(list(capacity.values()), dtype=np.int32), (rows, columns)), (sink + 1,) * 2
    ).tocsr()
    flow = maximum_flow(graph, source, sink).flow
    left = graph - flow
    left.data[left.data < 0] = 0
    left.eliminate_zeros()
    near = set(breadth_first_order(left, source, return_predecessors=False).tolist())
    return tuple(0 if n in near else far for n in range(1, N + 1))


def hivemind(costs: SplitProblem, encoding: str, target: int | None) -> tuple[int, ...]:
    """Find the path of least cost through (layer, device); relays are allowed. Raises NetworkError."""
    if not costs.is_chain_topology:
        raise TopologyError(
            f"hivemind splits over devices in line, got links {_hops(costs)}: expected each device linked to "
            "the next. For a graph of devices use --method optimal or hermes"
        )
    chain, counts = as_chain(costs)
    N, M = chain.N, chain.M
    epsilon_LM = chain.epsilon_LM(encoding)
    # Node n * M + m: output n is on device m. To the next layer on the same device, or on to the next device.
    n_, m_ = np.meshgrid(range(N), range(M), indexing="ij")
    runs = ((n_ * M + m_).ravel(), ((n_ + 1) * M + m_).ravel(), chain.tau_NM.ravel())
    n_, m_ = np.meshgrid(range(N + 1), range(M - 1), indexing="ij")
    sends = ((n_ * M + m_).ravel(), (n_ * M + m_ + 1).ravel(), epsilon_LM[:, :-1].ravel())
    starts, ends, seconds = (np.concatenate(pair) for pair in zip(runs, sends, strict=True))
    graph = coo_array((np.maximum(seconds, 1e-300), (starts, ends)), ((N + 1) * M,) * 2).tocsr()
    cost, before = dijkstra(graph, indices=0, return_predecessors=True)
    finals = N * M + np.arange(M)
    node = int(finals[(cost[finals] + chain.back_M).argmin()] if target is None else finals[target])
    devices: list[int] = []
    while before[node] >= 0:
        if node // M > before[node] // M:
            devices.append(node % M)
        node = int(before[node])
    return expand_to_units(devices[::-1], counts)


def _hops(costs: SplitProblem) -> str:
    return ", ".join(f"{link.source} -> {link.target}" for link in costs.links)
