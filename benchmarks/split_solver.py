"""Time the exact split solvers: chains, limits, graphs, throughput, meshes, models; and their growth.

    python benchmarks/split_solver.py                       a table, about a minute
    python benchmarks/split_solver.py --check               exit 1 where a bar is missed
    python benchmarks/split_solver.py --picture FILE.png    seconds against N and M

Latencies are random, except for GoogLeNet and ResNet-50, whose units are those of torchvision at 224x224
over six or eight SIMULATED devices, all linked. Every split must be proven optimal. The bar is for the
fastest repeat, since other processes only slow a computation down; the median is printed too.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
from harness import benchmark_parser, finish

from jmsnas.arrays import FloatArray
from jmsnas.device import Device
from jmsnas.nas.graph.from_torch import model_from_torchvision
from jmsnas.nas.split.general_topology import GeneralTopology
from jmsnas.nas.split.links import LinkArrays
from jmsnas.nas.split.problem_of_model import problem_of_model
from jmsnas.nas.split.solve_chain import DeviceLimits, ResourceBudget, solve_chain
from jmsnas.nas.split.solve_dag import solve_dag
from jmsnas.nas.split.solve_device_graph import solve_device_graph
from jmsnas.nas.split.solve_mesh import assign_branches, solve_trunk_and_tail
from jmsnas.nas.split.throughput import solve_throughput
from jmsnas.topology import Link
from jmsnas.workspace import Workspace

N, M = 1000, 100
SIX = ("pi4", "laptop-cpu", "laptop", "jetson-cpu", "jetson", "cloud")
# Links per device of a random device graph, in addition to the chain through all devices.
LINKS_A_DEVICE = 8


@dataclass(frozen=True, slots=True)
class Result:
    """Seconds of one problem (least and median), the bar, and whether the split was proven optimal."""

    name: str
    least_s: float
    median_s: float
    bar_s: float | None
    proven: bool


def timed(name: str, solve: Callable[[], bool], bar_s: float | None, repeats: int) -> Result:
    proven, seconds = solve(), []
    for _ in range(repeats):
        began = time.perf_counter()
        proven &= solve()
        seconds.append(time.perf_counter() - began)
    return Result(name, min(seconds), median(seconds), bar_s, proven)


def chain(rng: np.random.Generator, n: int, m: int) -> tuple[FloatArray, FloatArray]:
    tau_NM = rng.uniform(0.1, 1, (n, m)) * rng.uniform(0.1, 1, m)
    epsilon_LM = rng.uniform(0, 30, (n + 1, m))
    epsilon_LM[:, -1] = 0
    return tau_NM, epsilon_LM


def graph(rng: np.random.Generator, m: int, share: float) -> LinkArrays:
    """Make links with delays: a chain in both directions, and others at random."""
    there = rng.random((m, m)) < share
    for k in range(m - 1):
        there[k, k + 1] = there[k + 1, k] = True
    np.fill_diagonal(there, True)
    delay_MM = np.where(there, rng.uniform(0, 0.3, (m, m)), np.inf)
    per_byte_MM = np.where(there, rng.uniform(0.1, 1, (m, m)), np.inf)
    np.fill_diagonal(delay_MM, 0)
    np.fill_diagonal(per_byte_MM, 0)
    return LinkArrays(delay_MM, per_byte_MM, per_byte_MM)


def memory(rng: np.random.Generator, n: int, m: int) -> DeviceLimits:
    weights_NM = np.repeat(rng.uniform(0, 1, (n, 1)), m, axis=1)
    caps_M = np.maximum(rng.uniform(0.5, 3, m) * n / m, 1.2)
    budget = ResourceBudget(weights_NM, 0.1 * weights_NM, np.zeros((n + 1, m)), caps_M)
    return DeviceLimits(np.ones(m, dtype=np.int64), np.full(m, n), (budget,))


def solvers(rng: np.random.Generator, n: int, m: int) -> dict[str, Callable[[], bool]]:
    """Make problems of n layers on m devices for solvers that return proven optima."""
    tau_NM, epsilon_LM = chain(rng, n, m)
    limits, sent_bytes_L = memory(rng, n, m), rng.uniform(0, 0.3, n + 1)
    sparse, full = graph(rng, m, LINKS_A_DEVICE / m), graph(rng, m, 1.0)
    return {
        "chain": lambda: solve_chain(tau_NM, epsilon_LM, "strict")[0] > 0,
        "chain, memory caps": lambda: solve_chain(tau_NM, epsilon_LM, "strict", limits)[0] > 0,
        "device graph": lambda: solve_device_graph(tau_NM, sent_bytes_L, sparse, 0, m - 1).latency_s > 0,
        "device graph, all linked": lambda: (
            solve_device_graph(tau_NM, sent_bytes_L, full, 0, m - 1).latency_s > 0
        ),
        "least period": lambda: solve_throughput(tau_NM, epsilon_LM, "strict")[0] > 0,
    }


def mesh(rng: np.random.Generator) -> Callable[[], bool]:
    """Make a mesh: a trunk of 500 layers on 20 devices, 8 branches on 8 children, a tail of 500 on 20."""
    tau_NM, epsilon_LM = chain(rng, 1000, 40)
    limits = DeviceLimits(np.zeros(40, dtype=np.int64), np.full(40, 1000))
    tau_BK, root_K, join_K = rng.uniform(1, 5, (8, 8)), rng.uniform(0, 1, 8), rng.uniform(0, 1, 8)

    def solve() -> bool:
        chains_s, _ = solve_trunk_and_tail(tau_NM, epsilon_LM, "relay", limits, None, (500, 20))
        return chains_s + assign_branches(tau_BK, root_K, join_K, "serial").latency_s > 0

    return solve


def dag_problem(
    name: str, tables: Sequence[str], rates_bps: FloatArray, delay_s: float
) -> Callable[[], bool]:
    """Make the problem of a torchvision model over devices with a link from each to each other."""
    model, names = model_from_torchvision(name), [f"{table} {k}" for k, table in enumerate(tables)]
    devices = tuple(Device(own, table, "") for own, table in zip(names, tables, strict=True))
    pairs = [(a, b) for a in range(len(names)) for b in range(len(names)) if a != b]
    links = tuple(Link(names[a], names[b], float(rates_bps[a, b]), delay_s) for a, b in pairs)
    dag = problem_of_model(model, GeneralTopology(devices, links), Workspace(Path("none"))).dag("uint8")
    return lambda: solve_dag(dag, 0, None).optimal


def dag_problems(rng: np.random.Generator) -> dict[str, Callable[[], bool]]:
    """Make the problems of models with branches: links rising along six devices, or random between eight."""
    found = {}
    slower_MM = 1 + np.minimum.outer(np.arange(6), np.arange(6))
    for name in ("googlenet", "resnet50"):
        for rate in (25e6, 1e9):
            title = f"{name} on 6 devices, {rate / 1e6:g} Mbit/s and up"
            found[title] = dag_problem(name, SIX, rate * slower_MM, 2e-4)
    eight = {f"8 {table}": (table,) * 8 for table in ("jetson", "laptop", "cloud")}
    eight["8 devices"] = (
        "jetson",
        "jetson",
        "laptop",
        "laptop",
        "jetson-cpu",
        "jetson-cpu",
        "cloud",
        "cloud",
    )
    for title, tables in eight.items():
        for delay_s in (0.0, 2e-4):
            rates_bps = rng.uniform(2e9, 10e9, (8, 8))
            named = f"googlenet on {title}, 2-10 Gbit/s, {delay_s * 1e3:g} ms"
            found[named] = dag_problem("googlenet", tables, rates_bps, delay_s)
    return found


def draw_growth(path: Path) -> None:
    """Draw seconds against N at M = 100, and against M at N = 1000."""
    from jmsnas.report.plot_style import DEVICE_COLOURS, new_figure, png

    figure = new_figure(10, 4)
    sizes = {"N (M = 100)": [(n, 100) for n in (100, 200, 500, 1000, 2000)]}
    sizes["M (N = 1000)"] = [(1000, m) for m in (10, 20, 50, 100, 200)]
    for axes, (label, pairs) in zip(figure.subplots(1, 2, sharey=True), sizes.items(), strict=True):
        for k, name in enumerate(solvers(np.random.default_rng(0), 20, 5)):
            results = [
                timed(name, solvers(np.random.default_rng(0), max(n, m), m)[name], None, 3) for n, m in pairs
            ]
            at = [n if label[0] == "N" else m for n, m in pairs]
            axes.plot(at, [its.least_s * 1e3 for its in results], "o-", color=DEVICE_COLOURS[k], label=name)
        axes.set(xscale="log", yscale="log", xlabel=label, ylabel="ms")
    axes.legend(fontsize=8)
    path.write_bytes(png(figure))


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--picture", type=Path, help="draw how seconds grow with N and M")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    bars = (0.010, 0.150, 0.060, None, 0.500)
    results = []
    for (name, solve), bar_s in zip(solvers(rng, N, M).items(), bars, strict=True):
        results.append(timed(f"{name}, {N}x{M}", solve, bar_s, 15))
    results.append(timed("mesh, 8 branches, 1000x40 in line", mesh(rng), 0.050, 15))
    results += [timed(name, solve, 5.0, 3) for name, solve in dag_problems(rng).items()]
    print(f"{'problem':48}{'least':>11}{'median':>11}{'bar':>9}  proven")
    for its in results:
        bar = f"{its.bar_s * 1e3:.0f} ms" if its.bar_s else ""
        print(f"{its.name:48}{its.least_s * 1e3:8.1f} ms{its.median_s * 1e3:8.1f} ms{bar:>9}  {its.proven}")
    missed = [
        f"{its.name}: {its.least_s * 1e3:.1f} ms, proven {its.proven}"
        for its in results
        if not its.proven or (its.bar_s and its.least_s > its.bar_s)
    ]
    if arguments.picture:
        draw_growth(arguments.picture)
    finish(arguments, {"results": [asdict(its) for its in results]}, missed)


if __name__ == "__main__":
    main()
