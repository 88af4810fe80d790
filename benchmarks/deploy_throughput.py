"""Compare measured and predicted throughput of a pipelined chain of four agents in network namespaces.

Each model is split for the minimum period (`solve_throughput`, policy strict) from U(.) of this host and the
rates of Table I: 25, 50 and 200 Mbit/s, by `tc tbf`. Images are sent with eight in flight. The ratio is
measured images per second times the period; 1 is the solver's bound. The term that limits the period is
printed, and the processor time of an image on each device; all share the cores of this machine, which no
equation models. Models: random ones of the `cifar` space, which send little and so often, of the `imagenet`
space, and MobileNetV2 at 224.

Bars: 0.6 for each model of `cifar`, 0.95 for each other one whose period is that of a link, 0.85 for the mean
over all.

Needs root (namespaces); otherwise it prints "not run", and `--check` exits with 1.
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
from processes import cpu_s

from jmsnas.deploy.leader.leader import Leader, Response
from jmsnas.nas.split.throughput import solve_throughput

MEAN_BAR, CIFAR_BAR, LINK_BAR = 0.85, 0.6, 0.95
_WINDOW, _WARM_UP, _TIMEOUT_S = 8, 24, 30.0
_RATES_BPS = np.array([1e6 * RATES_MBPS.get(device, 200) for device in CHAIN])


@dataclass(frozen=True)
class Result:
    """Minimum period of a model, the term that limits it, and the measured throughput.

    `cpu_s` is the processor time of an image on each device, and on the leader.
    """

    model: str
    cuts: tuple[int, ...]
    period_s: float
    bound_by: str
    cpu_s: dict[str, float]
    per_s: float
    difference: float

    @property
    def ratio(self) -> float:
        """Images per period; 1 is the bound."""
        return self.per_s * self.period_s

    @property
    def bar(self) -> float:
        """Least ratio; 0 where only the mean has a bar."""
        if self.model.startswith("cifar"):
            return CIFAR_BAR
        return LINK_BAR if "->" in self.bound_by else 0.0


def least(blocks: Blocks, tau: Tau) -> tuple[tuple[int, ...], float, str]:
    """Solve for the minimum period at the rates of Table I: cuts, seconds, and the limiting term."""
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
    """Deploy a model with its minimum period, and send images in a pipeline."""
    cuts, period_s, bound_by = least(blocks, tau)
    wanted, whole = on_chain(blocks, cuts), exported(blocks, 0)
    leader.ship(wanted.part_specs, {"chain": whole})
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal(whole.shapes[0]).astype(np.float32) for _ in range(8)]
    under_way, answers, ends_s = deque[Any](), list[Response](), list[float]()
    before_s = [cpu_s(pid) for pid in pids]
    for n in range(_WARM_UP + requests):
        under_way.append(leader.start(xs[n % 8], _TIMEOUT_S))
        if len(under_way) == _WINDOW:
            answers.append(under_way.popleft()())
            ends_s.append(time.monotonic())
    answers += [wait() for wait in under_way]
    spent_s = [(cpu_s(pid) - began_s) / len(answers) for pid, began_s in zip(pids, before_s, strict=True)]
    expected = [whole.run(x) for x in xs]
    difference = max(float(np.abs(answer.logits - expected[n % 8]).max()) for n, answer in enumerate(answers))
    # Without filling and emptying the pipeline.
    per_s = (len(ends_s) - 1 - _WARM_UP) / (ends_s[-1] - ends_s[_WARM_UP])
    by_device = dict(zip((*CHAIN, "leader"), spent_s, strict=True))
    return Result(name, cuts, period_s, bound_by, by_device, per_s, difference)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--models", type=int, default=5, help="random models of each space")
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of profiling on this host")
    parser.add_argument("--work", type=Path, help="folder of the saved latency table")
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
            results.append(evaluate(name, blocks, tau, leader, [*pids, os.getpid()], arguments.requests))
            print(line(results[-1]), flush=True)
    report(arguments, results, load)


def line(result: Result) -> str:
    """Describe a result in one line."""
    return (
        f"{result.model:<18} cuts {','.join(map(str, result.cuts)):<14} period "
        f"{1e3 * result.period_s:7.2f} ms by {result.bound_by:<12} {result.per_s:7.1f} images/s  "
        f"ratio {result.ratio:.2f}\n    processor time of an image, ms: "
        + ", ".join(f"{name} {1e3 * seconds:.2f}" for name, seconds in result.cpu_s.items())
    )


def report(arguments: argparse.Namespace, results: list[Result], load: tuple[float, float, float]) -> None:
    """Print the mean, write the JSON file, and list the bars that are missed."""
    ratios = [result.ratio for result in results]
    mean, worst = float(np.mean(ratios)), max(result.difference for result in results)
    print(f"images per period, {len(results)} models: {mean:.2f} on average (bar {MEAN_BAR}), ", end="")
    print(f"{min(ratios):.2f} at least")
    print(f"load average before the requests {load[0]:.2f}, {os.cpu_count()} cores shared by all agents")
    short = [f"mean {mean:.2f} < {MEAN_BAR}"] if mean < MEAN_BAR else []
    short += [f"{r.model}: {r.ratio:.2f} < {r.bar}" for r in results if r.ratio < r.bar]
    short += [f"logits differ by {worst:.1e} > {TOLERANCE:.0e}"] if worst > TOLERANCE else []
    rows = [{**asdict(result), "ratio": result.ratio, "bar": result.bar} for result in results]
    finish(arguments, {"load": load, "mean": mean, "results": rows}, short)


if __name__ == "__main__":
    main()
