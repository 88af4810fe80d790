"""The trade-offs of a split as pictures: every cut, every link rate, every input encoding, every period."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jmsnas.errors import TargetError
from jmsnas.files import make_folder, write_atomic
from jmsnas.nas.costs import Costs, at_rate, chained
from jmsnas.nas.placement import chain_terms
from jmsnas.nas.split_methods import Question, split
from jmsnas.nas.split_period import chain_period, least_latency_within, least_period
from jmsnas.nas.split_sweep import rate_lines, sweep
from jmsnas.report.drawing import (
    DEVICE_COLOURS,
    GREY,
    LINK_COLOURS,
    milliseconds,
    new_figure,
    plain,
    png,
    title,
)

# Table I's range of wireless links, generously.
_RATES_BPS = (1e6, 200e6)
_POINTS = 200


def write_pictures(costs: Costs, question: Question, folder: Path) -> list[Path]:
    """Draw all trade-offs of a network over devices in line into `folder`, as PNG files.

    Raises
    ------
    NetworkError
        For a graph of devices.
    StorageError
        When a file cannot be written.
    """
    chain, _ = chained(costs)
    asked = replace(question, method="optimal", objective="latency", budget_j=None)
    drawings: dict[str, Callable[[Costs, Question], Figure]] = {
        "cuts": draw_cuts,
        "rates": draw_rates,
        "inputs": draw_inputs,
        "throughput": draw_throughput,
    }
    make_folder(folder)
    written = []
    for name, drawing in drawings.items():
        path = folder / f"{plain(Path(chain.network).stem, 40)}-{name}.png"
        write_atomic(path, png(drawing(chain, asked)))
        written.append(path)
    return written


def draw_cuts(costs: Costs, question: Question) -> Figure:
    """Draw the best plan for every output the first link may carry, stacked: computing and sending."""
    lines = rate_lines(costs, question)
    epsilon_LM, early = costs.epsilon_LM(question.encoding), question.policy == "stop-early"
    terms = [chain_terms(costs.tau_NM, epsilon_LM, line.placement, early) for line in lines]
    at = np.arange(len(lines))
    figure = new_figure(max(7.0, 0.32 * len(lines) + 3), 4.6)
    axes = figure.subplots()
    base = np.zeros(len(lines))
    for m, name in enumerate(costs.names):
        for k, (label, colour) in enumerate(
            ((plain(name), DEVICE_COLOURS[m % 6]), (f"send from {plain(name)}", LINK_COLOURS[m % 4]))
        ):
            seconds = np.array([its[k][m] for its in terms]) * 1e3
            if seconds.any():
                axes.bar(at, seconds, bottom=base, color=colour, label=label, hatch="///" if k else None)
                base += seconds
    best = int(base.argmin())
    axes.plot(at[best], base[best], "v", color="black", label=f"best, {milliseconds(base[best] / 1e3)}")
    axes.set_xticks(at, [str(line.cut) for line in lines], fontsize=8)
    axes.set(xlabel=f"layers on {plain(costs.names[0])}; behind the cut the best plan", ylabel="ms")
    _heading(axes, costs, f"T of every first cut, {question.encoding} input, {question.policy}")
    axes.legend(fontsize=8)
    return figure


def draw_rates(costs: Costs, question: Question) -> Figure:
    """Draw T of the best plan against the first link's rate, where it changes, and cloud only beside it."""
    figure = new_figure(7.5, 4.4)
    axes = figure.subplots()
    found = sweep(costs, question, 0, *_RATES_BPS)
    rates = np.geomspace(*_RATES_BPS, _POINTS)
    lines = rate_lines(costs, question)
    best = np.min([[line.latency_s(rate) for rate in rates] for line in lines], axis=0)
    axes.plot(rates / 1e6, best * 1e3, color=DEVICE_COLOURS[0], linewidth=2.5, label="best plan")
    axes.plot(rates / 1e6, _cloud(costs, question, rates) * 1e3, "--", color=GREY, label="cloud only")
    for rate, line in found.switches[1:]:
        axes.axvline(rate / 1e6, color=GREY, linewidth=0.8)
        words = f"{len(line.placement.layers[0])} on {plain(costs.names[0])}"
        at = (rate / 1e6, line.latency_s(rate) * 1e3)
        axes.annotate(words, at, fontsize=7, rotation=90, va="bottom")
    axes.set(xscale="log", yscale="log", xlabel=f"rate of {found.link}, Mbit/s", ylabel="T, ms")
    _heading(axes, costs, f"T against the link, {question.encoding} input, {question.policy}")
    axes.legend(fontsize=8)
    return figure


def draw_inputs(costs: Costs, question: Question) -> Figure:
    """Draw T of the best plan beside cloud only, for each encoding of the raw input."""
    figure = new_figure(6.5, 4.2)
    axes = figure.subplots()
    names = list(costs.input_bytes)
    for k, (label, method) in enumerate((("cloud only", "cloud"), ("best plan", "optimal"))):
        asked = [replace(question, encoding=name, method=method) for name in names]
        seconds = [split(costs, its).told.latency_s * 1e3 for its in asked]
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


def draw_throughput(costs: Costs, question: Question) -> Figure:
    """Draw the least T at every period that can be kept, down to the least period."""
    figure = new_figure(6.5, 4.2)
    axes = figure.subplots()
    epsilon_LM, early = costs.epsilon_LM(question.encoding), question.policy == "stop-early"
    limits = costs.limits(question.encoding, question.policy, question.min_layers)
    given = (costs.tau_NM, epsilon_LM, question.policy)
    least_s, _ = least_period(*given, limits)
    points = []
    period_s = np.inf
    while period_s >= least_s:
        try:
            latency_s, placement = least_latency_within(*given, period_s, limits)
        except TargetError:
            break
        own_s = chain_period(costs.tau_NM, epsilon_LM, placement, early)
        points.append((own_s, latency_s))
        period_s = own_s * (1 - 1e-9)
    points.sort()
    axes.step(
        [p * 1e3 for p, _ in points], [t * 1e3 for _, t in points], where="post", color=DEVICE_COLOURS[0]
    )
    axes.plot([p * 1e3 for p, _ in points], [t * 1e3 for _, t in points], "o", color=DEVICE_COLOURS[0])
    axes.set(xlabel="an image every ... ms", ylabel="T, ms")
    _heading(axes, costs, f"T against throughput, {question.encoding} input, {question.policy}")
    return figure


def _cloud(costs: Costs, question: Question, rates: np.ndarray) -> np.ndarray:
    asked = replace(question, method="cloud", min_layers=0)
    return np.array([split(at_rate(costs, float(rate)), asked).told.latency_s for rate in rates])


def _heading(axes: Axes, costs: Costs, text: str) -> None:
    title(axes, f"{plain(costs.network, 40)}: {text}", bool(costs.simulated))
