"""Does a pipelined chain answer as often as the solver says? Four agents in namespaces, links by `tc tbf`.

Each network is split for the least period (`solve_throughput`, policy strict) from U(.) of this host and the
rates of Table I: 25, 50 and 200 Mbit/s. Then images follow one another, eight under way at once. Measured:
answers a second, times that period; 1 is the solver's bound. The term that bounds is named. All agents share
the cores of this machine, which is in no equation: processor seconds an image over the cores are printed, and
where they are more than the period, the host is what bounds. The bar, 0.85 on average, is for all others:
random models of the `imagenet` space and MobileNetV2 at 224; those of `cifar` send little, and show both.

Needs root (namespaces). Without, it says "not run", and `--check` exits 1.
"""

import argparse
import os
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from deploy_fidelity import TOLERANCE, agents, cannot_run, profiled
from deploy_networks import CHAIN, PAIRS, Blocks, Tau, benchmark_models, exported, on_chain, random_models
from harness import benchmark_parser, finish
from link_namespaces import RATES_MBPS

from jmsnas.deploy.leader.leader import Leader, Response
from jmsnas.nas.split.throughput import solve_throughput

BAR, _WINDOW, _WARM_UP, _TIMEOUT_S = 0.85, 8, 24, 30.0
_RATES_BPS = np.array([1e6 * RATES_MBPS.get(device, 200) for device in CHAIN])


@dataclass(frozen=True)
class Result:
    """A network's least period, which term it is, and how often answers came."""

    network: str
    cuts: tuple[int, ...]
    period_s: float
    bound_by: str
    host_s: float
    per_s: float
    difference: float

    @property
    def ratio(self) -> float:
        """Answers in a period: 1 is the bound."""
        return self.per_s * self.period_s

    @property
    def by_host(self) -> bool:
        """Whether this host's cores bound it, and no term of the solver's."""
        return self.host_s > self.period_s


def least(blocks: Blocks, tau: Tau) -> tuple[tuple[int, ...], float, str]:
    """Solve for the least period at Table I rates: the cuts, seconds, and the term that it is."""
    tau_N = np.array([tau[block] for block in blocks])
    sent = [4 * int(np.prod(blocks[0].layer.input_shape)), *(4 * b.layer.output_elements for b in blocks)]
    epsilon_LM = 8 * np.array(sent, float)[:, None] / _RATES_BPS
    epsilon_LM[:, -1] = 0.0  # the result stays at the last device
    period_s, placement = solve_throughput(
        np.repeat(tau_N[:, None], len(CHAIN), axis=1), epsilon_LM, "strict"
    )
    terms = {}
    for m, (device, layers) in enumerate(zip(CHAIN, placement.layers, strict=True)):
        terms[f"compute on {device}"] = float(tau_N[[n - 1 for n in layers]].sum())
        if m < len(PAIRS["chain"]):
            terms[" -> ".join(PAIRS["chain"][m])] = float(epsilon_LM[placement.cuts[m], m])
    return placement.cuts, period_s, max(terms, key=terms.__getitem__)


def evaluate(
    name: str, blocks: Blocks, tau: Tau, leader: Leader, pids: Sequence[int], requests: int
) -> Result:
    """Ship a network by its least period, and send images one behind the other."""
    cuts, period_s, bound_by = least(blocks, tau)
    wanted, whole = on_chain(blocks, cuts), exported(blocks, 0)
    leader.ship(wanted.part_specs, {"chain": whole})
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal(whole.shapes[0]).astype(np.float32) for _ in range(8)]
    under_way, answers, ends_s = deque[Any](), list[Response](), list[float]()
    before_s = cpu_s(pids)
    for n in range(_WARM_UP + requests):
        under_way.append(leader.start(xs[n % 8], _TIMEOUT_S))
        if len(under_way) == _WINDOW:
            answers.append(under_way.popleft()())
            ends_s.append(time.monotonic())
    answers += [wait() for wait in under_way]
    host_s = (cpu_s(pids) - before_s) / len(answers) / len(os.sched_getaffinity(0))
    expected = [whole.run(x) for x in xs]
    difference = max(float(np.abs(answer.logits - expected[n % 8]).max()) for n, answer in enumerate(answers))
    # Filling and emptying the pipeline are not what a period says.
    per_s = (len(ends_s) - 1 - _WARM_UP) / (ends_s[-1] - ends_s[_WARM_UP])
    return Result(name, cuts, period_s, bound_by, host_s, per_s, difference)


def cpu_s(pids: Sequence[int]) -> float:
    """Processor seconds of the agents and of this process, so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK") + time.process_time()


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--models", type=int, default=5, help="random models of each space")
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, default=60.0, help="seconds to profile this host with")
    parser.add_argument("--work", type=Path, help="keep the table here, and go on from it")
    return parser.parse_args()


def main() -> None:
    """Profile, measure, print, check."""
    arguments = parse_arguments()
    if cannot_run():
        raise SystemExit(int(arguments.check))
    nets = {
        **benchmark_models(arguments.models, arguments.seed),
        **random_models("imagenet", arguments.models, arguments.seed),
    }
    subjects, results = list(dict.fromkeys(block for blocks in nets.values() for block in blocks)), []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jmsnas-")))
        tau, load = profiled(subjects, arguments.work or folder, arguments), os.getloadavg()
        leader, pids = stack.enter_context(agents(CHAIN, PAIRS["chain"], folder))
        for name, blocks in nets.items():
            results.append(evaluate(name, blocks, tau, leader, pids, arguments.requests))
            print(line(results[-1]), flush=True)
    report(arguments, results, load)


def line(result: Result) -> str:
    """Print a result."""
    return (
        f"{result.network:<18} cuts {','.join(map(str, result.cuts)):<14} least period "
        f"{1e3 * result.period_s:7.2f} ms by {result.bound_by:<12} {result.per_s:7.1f} images/s  "
        f"ratio {result.ratio:.2f}  host {1e3 * result.host_s:5.2f} ms an image"
        + (": it bounds" if result.by_host else "")
    )


def report(arguments: argparse.Namespace, results: list[Result], load: tuple[float, float, float]) -> None:
    """Print the mean, write the JSON file, and list the bars that are missed."""
    bound = [result.ratio for result in results if not result.by_host] or [0.0]
    mean, worst = float(np.mean(bound)), max(result.difference for result in results)
    print(
        f"answers in a least period, but where this host bounds ({len(bound)} networks): {mean:.2f} on "
        f"average (bar {BAR}), {min(bound):.2f} at least"
    )
    over_all = float(np.mean([result.ratio for result in results]))
    print(f"over all {len(results)} networks: {over_all:.2f} on average (no bar: the host is no term of T)")
    print(f"load average before the requests {load[0]:.2f}, {os.cpu_count()} cores shared by all agents")
    short = [f"{mean:.2f} < {BAR}"] if mean < BAR else []
    short += [f"logits differ by {worst:.1e} > {TOLERANCE:.0e}"] if worst > TOLERANCE else []
    rows = [{**asdict(result), "ratio": result.ratio, "by_host": result.by_host} for result in results]
    finish(arguments, {"load": load, "mean": mean, "mean_over_all": over_all, "results": rows}, short)


if __name__ == "__main__":
    main()
