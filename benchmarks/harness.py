"""Command line of the benchmarks: common options, JSON file of the figures, and exit code of `--check`."""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jmsnas.files import write_json
from jmsnas.profiler.host.environment import describe_host
from jmsnas.profiler.table.latency_table import RUNTIMES

SPACES = ("digits", "cifar")
_PACKAGES = ("jmsnas", "numpy", "scipy", "scikit-learn", "torch", "onnxruntime")

Figures = dict[str, Any]


def benchmark_parser(doc: str | None) -> argparse.ArgumentParser:
    """Argument parser of a benchmark: its docstring as help, and the options `--json` and `--check`."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write figures, machine and versions to this file")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a figure misses its bar")
    return parser


def finish(arguments: argparse.Namespace, figures: Mapping[str, Any], missed: Sequence[str]) -> None:
    """Write the JSON file, print every figure that misses its bar, and under `--check` exit with 1.

    `missed` has a line for each such figure; without any the exit code is 0.
    """
    if arguments.json:
        environment = {**describe_host(), **{name: version(name) for name in _PACKAGES}}
        write_json(arguments.json, {"environment": environment, **figures, "missed": list(missed)})
    for line in missed:
        print(f"MISSED {line}")
    if arguments.check and missed:
        raise SystemExit(1)


def profiler_parser(doc: str | None) -> argparse.ArgumentParser:
    """Argument parser of a profiler benchmark, with the options of `run_profiler_benchmark`."""
    parser = benchmark_parser(doc)
    parser.add_argument("--space", action="append", help=f"may be repeated; {', '.join(SPACES)} by default")
    parser.add_argument(
        "--runtime", action="append", choices=RUNTIMES, help="may be repeated; all by default"
    )
    parser.add_argument("--seed", type=int, default=0)
    return parser


def run_profiler_benchmark(
    arguments: argparse.Namespace,
    measure: Callable[[str, str, Path, int], Figures],
    report: Callable[[Figures], list[str]],
) -> None:
    """Measure and report every space and runtime, then `finish`.

    `measure` is called with space, runtime, a temporary folder and the seed; `report` prints its figures and
    returns a line for each one that misses its bar.
    """
    figures, missed = [], list[str]()
    with tempfile.TemporaryDirectory() as folder:
        for space, runtime in _pairs(arguments):
            figures.append(measure(space, runtime, Path(folder), arguments.seed))
            missed += report(figures[-1])
    finish(arguments, {"figures": figures}, missed)


def _pairs(arguments: argparse.Namespace) -> Iterator[tuple[str, str]]:
    for space in arguments.space or SPACES:
        for runtime in arguments.runtime or RUNTIMES:
            yield space, runtime
