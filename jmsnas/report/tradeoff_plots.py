"""The trade-offs of a split as pictures: every cut, every link rate, every input encoding, every period."""

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

# Table I's range of wireless links, generously.
_RATES_BPS = (1e6, 200e6)
_POINTS = 200


def write_pictures(costs: SplitProblem, question: SplitRequest, folder: Path) -> list[Path]:
    """Draw all trade-offs of a network over devices in line or over a mesh into `folder`, as PNG files.

    On a mesh T against the rate is drawn for the first link and for that to the child T waits for.

    Raises
    ------
    InputError, NetworkError
        For a graph of devices that is neither, or with several links behind the first device.
    StorageError
        When a file cannot be written.
    """
    chain = costs if costs.fork else as_chain(costs)[0]
    asked = replace(question, method="optimal", objective="latency", budget_j=None)
    figures = {"rates": draw_rates(chain, asked, link := first_link(chain, asked))}
    if chain.tree is None or chain.links[link].source != chain.tree.root:
        figures["cuts"] = draw_cuts(chain, asked)
        if chain.fork and not chain.returns:
            figures["branch-rates"] = draw_rates(chain, asked, slowest_link(chain, asked))
    figures |= {"inputs": draw_inputs(chain, asked), "throughput": draw_throughput(chain, asked)}
    make_folder(folder)
    written = []
    for name, figure in figures.items():
        path = folder / f"{plain(Path(chain.model).stem, 40)}-{name}.png"
        write_atomic(path, png(figure))
        written.append(path)
    return written


def first_link(costs: SplitProblem, question: SplitRequest) -> int:
    """Give the link behind the first device; of several at a tree's root that to the child T waits for."""
    if costs.fork and costs.tree and costs.tree.root == costs.names[0]:
        return slowest_link(costs, question)
    return find_link(costs)


def slowest_link(costs: SplitProblem, question: SplitRequest) -> int:
    """Give the link from the root of a tree to the child whose branch is the slowest."""
    assert costs.tree, "asked of a mesh only"
    critical = split(costs, question).timeline.critical_path
    to = [step.target for step in critical if step.device == costs.tree.root and step.target]
    return find_link(costs, costs.tree.root, to[-1])


def draw_cuts(costs: SplitProblem, question: SplitRequest) -> Figure:
    """Draw the best plan for every output the first link may carry, stacked: computing and sending.

    On a mesh the slowest branch is drawn, and the others run beside it.
    """
    lines, target = rate_lines(costs, question, find_link(costs)), result_device(costs, question.policy)
    told = [compute_timeline(costs, question.encoding, line.devices, target) for line in lines]
    at = np.arange(len(lines))
    figure = new_figure(max(7.0, 0.32 * len(lines) + 3), 4.6)
    axes = figure.subplots()
    base = np.zeros(len(lines))
    # In the order of T: device by device, what each computes and then sends.
    ends = {(step.device, step.target): None for its in told for step in its.critical_path}
    for device, to in sorted(ends, key=lambda its: (costs.names.index(its[0]), bool(its[1]))):
        m = costs.names.index(device)
        own = (
            sum(step.seconds for step in its.critical_path if (step.device, step.target) == (device, to))
            for its in told
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
    axes.set(xlabel=f"layers on {plain(costs.names[0])}; behind the cut the best plan", ylabel="ms")
    beside = ", slowest branch" if costs.fork else ""
    _heading(axes, costs, f"T of every first cut{beside}, {question.encoding} input, {question.policy}")
    axes.legend(fontsize=8)
    return figure


def draw_rates(costs: SplitProblem, question: SplitRequest, link: int) -> Figure:
    """Draw T of the best plan against a link's rate, where it changes, and cloud only beside it."""
    figure = new_figure(7.5, 4.4)
    axes = figure.subplots()
    found = sweep_rate(costs, question, link, *_RATES_BPS)
    rates = np.geomspace(*_RATES_BPS, _POINTS)
    lines = rate_lines(costs, question, link)
    best = np.min([[line.latency_s(rate) for rate in rates] for line in lines], axis=0)
    axes.plot(rates / 1e6, best * 1e3, color=DEVICE_COLOURS[0], linewidth=2.5, label="best plan")
    cloud_ms = _cloud(costs, question, link, rates) * 1e3
    if np.isfinite(cloud_ms).all():
        axes.plot(rates / 1e6, cloud_ms, "--", color=GREY, label="cloud only")
    for rate, line in found.switches[1:]:
        axes.axvline(rate / 1e6, color=GREY, linewidth=0.8)
        at = (rate / 1e6, line.latency_s(rate) * 1e3)
        axes.annotate(_told_apart(costs, line), at, fontsize=7, rotation=90, va="bottom")
    axes.set(xscale="log", yscale="log", xlabel=f"rate of {plain(found.link, 40)}, Mbit/s", ylabel="T, ms")
    plain_ticks(axes.xaxis)
    plain_ticks(axes.yaxis)
    _heading(axes, costs, f"T against the link, {question.encoding} input, {question.policy}")
    axes.legend(fontsize=8)
    return figure


def _told_apart(costs: SplitProblem, line: RateLine) -> str:
    """Name a plan by what changes as the rate does."""
    if line.cut is None and costs.fork:
        first = [line.devices[branch.start] for branch in costs.fork.branches]
        return ", ".join(f"branch {b} on {plain(costs.names[m])}" for b, m in enumerate(first, 1))
    return f"{line.devices.count(0)} on {plain(costs.names[0])}"


def draw_inputs(costs: SplitProblem, question: SplitRequest) -> Figure:
    """Draw T of the best plan beside cloud only, for each encoding of the raw input."""
    figure = new_figure(6.5, 4.2)
    axes = figure.subplots()
    names = list(costs.input_bytes)
    for k, (label, method) in enumerate((("cloud only", "cloud"), ("best plan", "optimal"))):
        asked = [replace(question, encoding=name, method=method) for name in names]
        seconds = [1e3 * _latency_s(costs, its) for its in asked]
        if not np.isfinite(seconds).all():
            continue
        bars = axes.bar(
            np.arange(len(names)) + 0.4 * k - 0.2,
            seconds,
            0.4,
            color=(GREY, DEVICE_COLOURS[0])[k],
            label=label,
        )
        axes.bar_label(bars, [f"{its:.4g}" for its in seconds], fontsize=8)
    axes.set_xticks(np.arange(len(names)), [f"{its}\n{costs.input_bytes[its]:.0f} B" for its in names])
    axes.set(ylabel="T, ms")
    _heading(axes, costs, f"T by the raw input's encoding, {question.policy}")
    axes.legend(fontsize=8)
    return figure


def draw_throughput(costs: SplitProblem, question: SplitRequest) -> Figure:
    """Draw the least T at every period that can be kept, down to the least period."""
    figure = new_figure(6.5, 4.2)
    axes = figure.subplots()
    points = latency_throughput_front(costs, question)
    axes.step(
        [p * 1e3 for p, _ in points], [t * 1e3 for _, t in points], where="post", color=DEVICE_COLOURS[0]
    )
    axes.plot([p * 1e3 for p, _ in points], [t * 1e3 for _, t in points], "o", color=DEVICE_COLOURS[0])
    axes.set(xlabel="an image every ... ms", ylabel="T, ms")
    _heading(axes, costs, f"T against throughput, {question.encoding} input, {question.policy}")
    return figure


def _latency_s(costs: SplitProblem, question: SplitRequest) -> float:
    """T; infinite where cloud only cannot be, the last device having no times of some unit."""
    try:
        return split(costs, question).timeline.latency_s
    except InfeasibleError:
        if question.method == "cloud":
            return np.inf
        raise


def _cloud(costs: SplitProblem, question: SplitRequest, link: int, rates: np.ndarray) -> np.ndarray:
    asked = replace(question, method="cloud", min_layers=0)
    return np.array([_latency_s(with_link_rate(costs, float(rate), link), asked) for rate in rates])


def _heading(axes: Axes, costs: SplitProblem, text: str) -> None:
    title(axes, f"{plain(costs.model, 40)}: {text}", bool(costs.simulated), bool(costs.published))
