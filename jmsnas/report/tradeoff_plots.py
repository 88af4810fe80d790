"""Plots of the trade-offs of a split: T by cut, by link rate, by input encoding, and by throughput."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jmsnas.errors import InfeasibleError
from jmsnas.files import make_folder, write_atomic
from jmsnas.nas.split.methods import SplitRequest, split
from jmsnas.nas.split.pareto import latency_throughput_front
from jmsnas.nas.split.problem import SplitProblem, as_chain, with_link_rate
from jmsnas.nas.split.rate_sweep import RateLine, find_link, rate_lines, sweep_rate
from jmsnas.nas.split.timeline import compute_timeline, result_device
from jmsnas.report.plot_style import (
    DEVICE_COLOURS,
    GREY,
    LINK_COLOURS,
    milliseconds,
    new_figure,
    plain,
    plain_ticks,
    png,
    title,
)

# Wider than Table I's range of wireless links.
_RATES_BPS = (1e6, 200e6)
_POINTS = 200


def write_pictures(problem: SplitProblem, request: SplitRequest, folder: Path) -> list[Path]:
    """Write plots of all trade-offs of a model on a chain or a mesh into `folder`, as PNG files.

    On a mesh, T by rate is plotted for the first link and for the link to the slowest branch.

    Raises
    ------
    InputError, TopologyError
        For a device graph that is neither, or with several links from the first device.
    StorageError
        When a file cannot be written.
    """
    chain = problem if problem.fork else as_chain(problem)[0]
    request = replace(request, method="optimal", placement=None, objective="latency", budget_j=None)
    figures = {"rates": draw_rates(chain, request, link := first_link(chain, request))}
    if chain.tree is None or chain.links[link].source != chain.tree.root:
        figures["cuts"] = draw_cuts(chain, request)
        if chain.fork and not chain.returns:
            figures["branch-rates"] = draw_rates(chain, request, slowest_link(chain, request))
    figures |= {"inputs": draw_inputs(chain, request), "throughput": draw_throughput(chain, request)}
    make_folder(folder)
    written = []
    for name, figure in figures.items():
        path = folder / f"{plain(Path(chain.model).stem, 40)}-{name}.png"
        write_atomic(path, png(figure))
        written.append(path)
    return written


def first_link(problem: SplitProblem, request: SplitRequest) -> int:
    """Return the index of the first device's link; of several, the one to the slowest branch."""
    if problem.fork and problem.tree and problem.tree.root == problem.names[0]:
        return slowest_link(problem, request)
    return find_link(problem)


def slowest_link(problem: SplitProblem, request: SplitRequest) -> int:
    """Return the index of the link from the root of a mesh to the child with the slowest branch."""
    assert problem.tree, "only a mesh has branches"
    critical = split(problem, request).timeline.critical_path
    to = [step.target for step in critical if step.device == problem.tree.root and step.target]
    return find_link(problem, problem.tree.root, to[-1])


def draw_cuts(problem: SplitProblem, request: SplitRequest) -> Figure:
    """Draw T of the best placement for every first cut, stacked by device and transfer.

    On a mesh only the slowest branch is drawn.
    """
    lines, target = rate_lines(problem, request, find_link(problem)), result_device(problem, request.policy)
    timelines = [compute_timeline(problem, request.encoding, line.devices, target) for line in lines]
    at = np.arange(len(lines))
    figure = new_figure(max(7.0, 0.32 * len(lines) + 3), 4.6)
    axes = figure.subplots()
    base = np.zeros(len(lines))
    # In the order of the data: each device's computation, then its transfer.
    ends = {(step.device, step.target): None for timeline in timelines for step in timeline.critical_path}
    for device, to in sorted(ends, key=lambda pair: (problem.names.index(pair[0]), bool(pair[1]))):
        m = problem.names.index(device)
        own = (
            sum(step.seconds for step in timeline.critical_path if (step.device, step.target) == (device, to))
            for timeline in timelines
        )
        seconds = 1e3 * np.array(list(own))
        if seconds.any():
            label = f"send {plain(device)} to {plain(to)}" if to else plain(device)
            colour = LINK_COLOURS[m % len(LINK_COLOURS)] if to else DEVICE_COLOURS[m % len(DEVICE_COLOURS)]
            axes.bar(at, seconds, bottom=base, color=colour, label=label, hatch="///" if to else None)
            base += seconds
    best = int(base.argmin())
    axes.plot(at[best], base[best], "v", color="black", label=f"best, {milliseconds(base[best] / 1e3)}")
    axes.set_xticks(at, [str(line.cut) for line in lines], fontsize=8)
    axes.set(xlabel=f"layers on {plain(problem.names[0])}; the rest on the best devices", ylabel="ms")
    branch = ", slowest branch" if problem.fork else ""
    _heading(axes, problem, f"T of every first cut{branch}, {request.encoding} input, {request.policy}")
    axes.legend(fontsize=8)
    return figure


def draw_rates(problem: SplitProblem, request: SplitRequest, link: int) -> Figure:
    """Draw T of the best placement and of cloud only by a link's rate, and the rates where it changes."""
    figure = new_figure(7.5, 4.4)
    axes = figure.subplots()
    result = sweep_rate(problem, request, link, *_RATES_BPS)
    rates = np.geomspace(*_RATES_BPS, _POINTS)
    lines = rate_lines(problem, request, link)
    best = np.min([[line.latency_s(rate) for rate in rates] for line in lines], axis=0)
    axes.plot(rates / 1e6, best * 1e3, color=DEVICE_COLOURS[0], linewidth=2.5, label="best placement")
    cloud_ms = _cloud(problem, request, link, rates) * 1e3
    if np.isfinite(cloud_ms).all():
        axes.plot(rates / 1e6, cloud_ms, "--", color=GREY, label="cloud only")
    for rate, line in result.switches[1:]:
        axes.axvline(rate / 1e6, color=GREY, linewidth=0.8)
        at = (rate / 1e6, line.latency_s(rate) * 1e3)
        axes.annotate(_placement_label(problem, line), at, fontsize=7, rotation=90, va="bottom")
    axes.set(xscale="log", yscale="log", xlabel=f"rate of {plain(result.link, 40)}, Mbit/s", ylabel="T, ms")
    plain_ticks(axes.xaxis)
    plain_ticks(axes.yaxis)
    _heading(axes, problem, f"T against the link, {request.encoding} input, {request.policy}")
    axes.legend(fontsize=8)
    return figure


def _placement_label(problem: SplitProblem, line: RateLine) -> str:
    """Describe a placement by the part that changes with the rate."""
    if line.cut is None and problem.fork:
        first = [line.devices[branch.start] for branch in problem.fork.branches]
        return ", ".join(f"branch {b} on {plain(problem.names[m])}" for b, m in enumerate(first, 1))
    return f"{line.devices.count(0)} on {plain(problem.names[0])}"


def draw_inputs(problem: SplitProblem, request: SplitRequest) -> Figure:
    """Draw T of the best placement and of cloud only for each encoding of the raw input."""
    figure = new_figure(6.5, 4.2)
    axes = figure.subplots()
    names = list(problem.input_bytes)
    for k, (label, method) in enumerate((("cloud only", "cloud"), ("best placement", "optimal"))):
        requests = [replace(request, encoding=name, method=method) for name in names]
        seconds = [1e3 * _latency_s(problem, own) for own in requests]
        if not np.isfinite(seconds).all():
            continue
        at, colour = np.arange(len(names)) + 0.4 * k - 0.2, (GREY, DEVICE_COLOURS[0])[k]
        bars = axes.bar(at, seconds, 0.4, color=colour, label=label)
        axes.bar_label(bars, [f"{bar_ms:.4g}" for bar_ms in seconds], fontsize=8)
    axes.set_xticks(np.arange(len(names)), [f"{name}\n{problem.input_bytes[name]:.0f} B" for name in names])
    axes.set(ylabel="T, ms")
    _heading(axes, problem, f"T by the raw input's encoding, {request.policy}")
    axes.legend(fontsize=8)
    return figure


def draw_throughput(problem: SplitProblem, request: SplitRequest) -> Figure:
    """Draw the least T by period between images, down to the least period."""
    figure = new_figure(6.5, 4.2)
    axes = figure.subplots()
    points = latency_throughput_front(problem, request)
    period_ms, latency_ms = [p * 1e3 for p, _ in points], [t * 1e3 for _, t in points]
    axes.step(period_ms, latency_ms, "o-", where="post", color=DEVICE_COLOURS[0])
    axes.set(xlabel="period between images, ms", ylabel="T, ms")
    _heading(axes, problem, f"T against throughput, {request.encoding} input, {request.policy}")
    return figure


def _latency_s(problem: SplitProblem, request: SplitRequest) -> float:
    """Return T; infinite if cloud only is infeasible, as the last device has no latency of some unit."""
    try:
        return split(problem, request).timeline.latency_s
    except InfeasibleError:
        if request.method == "cloud":
            return np.inf
        raise


def _cloud(problem: SplitProblem, request: SplitRequest, link: int, rates: np.ndarray) -> np.ndarray:
    cloud = replace(request, method="cloud", min_layers=0)
    return np.array([_latency_s(with_link_rate(problem, float(rate), link), cloud) for rate in rates])


def _heading(axes: Axes, problem: SplitProblem, text: str) -> None:
    title(axes, f"{plain(problem.model, 40)}: {text}", bool(problem.simulated), bool(problem.published))
