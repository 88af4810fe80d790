"""Compare split methods on MobileNetV2 at 224x224 over Table I: T, and the reduction against cloud only.

    python benchmarks/split_methods.py                         the paper's devices, all SIMULATED
    python benchmarks/split_methods.py --topology desk --budget 60     this host as the UE, measured now
    python benchmarks/split_methods.py --check                 exit 1 where another method is faster

For each policy and each encoding of the raw input: uint8, float32, and JPEG (mean of two photographs). A
method whose plan the policy does not allow is marked and not compared. The reduction may be negative.
"""

import tempfile
from pathlib import Path
from typing import Any

from harness import benchmark_parser, finish

from jmsnas.errors import JmsnasError
from jmsnas.nas.load_model import load_model
from jmsnas.nas.split.general_topology import load_general_topology
from jmsnas.nas.split.jpeg_size import jpeg_bytes
from jmsnas.nas.split.methods import METHODS, SplitRequest, split
from jmsnas.nas.split.problem import SplitProblem
from jmsnas.nas.split.problem_of_model import problem_of_model
from jmsnas.profiler.profile import ProfileOptions, profile_device
from jmsnas.profiler.table.latency_table import RuntimeKey
from jmsnas.topology import POLICIES
from jmsnas.workspace import Workspace

SIZE = 224


def mobilenet_problem(topology_name: str, workspace: Workspace, budget_s: float) -> SplitProblem:
    """Make the problem of MobileNetV2; measures its blocks first where this host is in the topology."""
    topology, model = load_general_topology(topology_name), load_model(workspace, "mobilenet_v2", SIZE)
    if any(device.table == "local" for device in topology.devices):
        blocks = tuple(dict.fromkeys(unit.block for unit in model.units if unit.block))
        profile_device(
            "local", blocks, [RuntimeKey("onnxruntime")], workspace, ProfileOptions(budget_s=budget_s)
        )
    return problem_of_model(model, topology, workspace, jpeg_bytes(SIZE, SIZE))


def table_of(problem: SplitProblem, policy: str, encoding: str) -> list[dict[str, Any]]:
    """T of every method, or the reason why a method does not apply."""
    found = []
    for method in METHODS:
        try:
            result = split(problem, SplitRequest(encoding, policy, method=method))
        except JmsnasError as error:
            found.append({"policy": policy, "input": encoding, "method": method, "refused": str(error)})
            continue
        found.append(
            {
                "policy": policy,
                "input": encoding,
                "method": method,
                "latency_s": result.timeline.latency_s,
                "period_s": result.timeline.period_s,
                "allowed": result.allowed,
                "proven": result.proven,
                "layers": {name: result.devices.count(m) for m, name in enumerate(problem.names)},
            }
        )
    return found


def print_table(rows: list[dict[str, Any]]) -> list[str]:
    """Print a table; returns the missed bars."""
    ours = next(row for row in rows if row["method"] == "optimal")
    cloud = next(row for row in rows if row["method"] == "cloud")
    saved = 1 - ours["latency_s"] / cloud["latency_s"]
    print(
        f"\npolicy {ours['policy']}, {ours['input']} input: {saved:+.1%} of cloud only saved by the best plan"
    )
    missed = [] if ours["proven"] else [f"{ours['policy']}, {ours['input']}: not proven"]
    for row in rows:
        if "refused" in row:
            print(f"  {row['method']:14}{'-':>11}  {row['refused']}")
            continue
        layers = ", ".join(f"{name} {count}" for name, count in row["layers"].items() if count)
        mark = "" if row["allowed"] else "  (not of this policy)"
        times = f"{row['latency_s'] * 1e3:8.2f} ms{row['period_s'] * 1e3:9.2f} ms"
        print(f"  {row['method']:14}{times}  {layers}{mark}")
        if row["allowed"] and ours["latency_s"] > row["latency_s"] * (1 + 1e-9):
            missed.append(f"{row['policy']}, {row['input']}: {row['method']} is faster than ours")
    return missed


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--topology", default="chain", help="chain, desk or a .toml file")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of sampling on this host")
    parser.add_argument("--workspace", type=Path, help="keep what is measured here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Workspace(arguments.workspace or Path(folder))
        problem = mobilenet_problem(arguments.topology, place, arguments.budget)
    for name in problem.names:
        print(f"{name:10}{problem.provenance[name]}")
    rows, missed = [], []
    for policy in POLICIES:
        for encoding in problem.input_bytes:
            own = table_of(problem, policy, encoding)
            missed += print_table(own)
            rows += own
    found = {"topology": arguments.topology, "provenance": dict(problem.provenance), "rows": rows}
    finish(arguments, found, missed)


if __name__ == "__main__":
    main()
