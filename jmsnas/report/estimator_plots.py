"""Plots of the accuracy of U(.): predicted against measured latency, and errors by layer geometry."""

import re
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jmsnas.estimators.evaluation.evaluate import Evaluation, PredictedRow
from jmsnas.origin import NOT_EVALUATED
from jmsnas.report.plot_style import (
    BLACK,
    GREY,
    ORIGIN_COLOURS,
    new_figure,
    percent,
    plain,
    title,
)

# The layer geometry in a block's text; a width in the middle or a variant may follow it. Stems and heads keep
# their names, as no other block has their geometry.
_GEOMETRY = re.compile(r"(?:(?!stem|head|conv|classifier)\S+ )?(.*?\d+->\d+ \d+x\d+(?: /\d+)?)")
# More geometries are not legible on one page.
_MOST_GEOMETRIES = 40
# Larger errors, in percent, are drawn at the edge with their value.
_WIDEST = 100.0
# More points are drawn smaller and more transparent.
_MANY_ROWS = 500
_ROW, _MARGIN = 0.2, 1.5
_HEADING = 72
# Label of the axis against which predictions are drawn, by origin.
AGAINST = {"simulated": "roofline, ms (SIMULATED)", "published": "published, ms", "imported": "imported, ms"}


def draw_predicted(name: str, evaluation: Evaluation, origin: str) -> Figure:
    """Draw predicted against measured latency of rows with held-out layer geometries, with 90 % intervals.

    The plot states the `origin` of the rows (`jmsnas.origin`) unless they were measured here.
    """
    figure = new_figure(6.4, 6.6)
    axes = figure.subplots()
    scores = f"MAPE {percent(evaluation.model.mape)}, {100 * evaluation.model.within_10:.0f} % within 10 %"
    coverage = f"90 % interval covers {100 * evaluation.coverage:.0f} %"
    heading = f"{_heading(name)}\nunseen geometries: {scores}, {coverage}"
    if origin == "simulated":
        heading = f"{_heading(name)}\n{NOT_EVALUATED}"
    title(axes, heading, origin == "simulated", origin == "published")
    colour = ORIGIN_COLOURS[origin]
    numbers = np.array([[p.measured_s, p.predicted_s, p.low_s, p.high_s] for p in evaluation.pairs]) * 1e3
    measured, predicted, low, high = numbers.T
    thin = 0.25 if len(evaluation.pairs) <= _MANY_ROWS else 0.06
    axes.vlines(measured, low, high, color=colour, alpha=thin, linewidth=0.8, label="90 % interval")
    scatter(axes, evaluation, colour)
    axes.set_xlabel(AGAINST.get(origin, "measured, ms"))
    axes.set_ylabel("predicted, ms")
    return figure


def scatter(axes: Axes, evaluation: Evaluation, colour: str) -> None:
    """Draw predicted against measured milliseconds on logarithmic axes, with a band of +-10 %."""
    measured = np.array([pair.measured_s for pair in evaluation.pairs]) * 1e3
    predicted = np.array([pair.predicted_s for pair in evaluation.pairs]) * 1e3
    low, high = 0.8 * min(measured.min(), predicted.min()), 1.25 * max(measured.max(), predicted.max())
    line = np.array([low, high])
    axes.fill_between(line, 0.9 * line, 1.1 * line, color=GREY, alpha=0.35, linewidth=0, label="within 10 %")
    axes.plot(line, line, color=BLACK, linewidth=0.8)
    size = 4 if len(evaluation.pairs) <= _MANY_ROWS else 2
    axes.plot(measured, predicted, "o", color=colour, markersize=size, alpha=0.7, markeredgewidth=0)
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
    ticks = _ticks(low, high)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_ticks([], minor=True)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="upper left")


def _ticks(low: float, high: float) -> list[float]:
    """Choose round ticks of a logarithmic axis: more for each decade on a short axis."""
    ticks: list[float] = []
    for mantissas in ((1, 10), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        ticks = [m * 10.0**e for e in range(-6, 7) for m in mantissas if low <= m * 10.0**e <= high]
        if len(ticks) >= 3:
            break
    return sorted(set(ticks))


def draw_geometries(name: str, evaluation: Evaluation, origin: str) -> Figure:
    """Draw the error predicted / measured - 1 of every row, one line for each layer geometry, worst first.

    Of more than 40 geometries the 40 with the largest mean error are drawn. Parameters as `draw_predicted`.
    """
    by_geometry: dict[str, list[float]] = {}
    for pair in evaluation.pairs:
        by_geometry.setdefault(_geometry(pair), []).append(100 * (pair.predicted_s / pair.measured_s - 1))
    worst = sorted(by_geometry, key=lambda each: -_mean(by_geometry[each]))[:_MOST_GEOMETRIES]
    figure = new_figure(8, _MARGIN + _ROW * len(worst))
    axes = figure.subplots()
    edge = min(_WIDEST, 1.1 * max(abs(error) for each in worst for error in by_geometry[each]) + 5)
    axes.axvspan(-10, 10, color=GREY, alpha=0.35, linewidth=0, label="within 10 %")
    axes.axvline(0, color=BLACK, linewidth=0.8)
    for y, each in enumerate(worst):
        _line(axes, y, by_geometry[each], edge, ORIGIN_COLOURS[origin])
    means = ["" if origin == "simulated" else f"   {_mean(by_geometry[each]):.1f} %" for each in worst]
    labels = [f"{plain(each, 40)}{mean}" for each, mean in zip(worst, means, strict=True)]
    axes.set_yticks(range(len(worst)), labels, fontsize=7)
    axes.set(xlim=(-edge, edge), ylim=(len(worst) - 0.4, -0.6))
    reference = {"simulated": "roofline (SIMULATED)"}.get(origin, origin)
    beside = "" if origin == "simulated" else "; next to each geometry its mean absolute error"
    axes.set_xlabel(f"error, %: predicted / {reference} - 1{beside}")
    axes.grid(axis="x", alpha=0.25)
    axes.legend(fontsize=8, loc="lower right")
    rest = len(by_geometry) - len(worst)
    count = f"worst {len(worst)} of {len(by_geometry)}" if rest else f"all {len(worst)}"
    note = NOT_EVALUATED if origin == "simulated" else "each held out"
    heading = f"{_heading(name)}\n{count} geometries, {note}"
    title(axes, heading, origin == "simulated", origin == "published")
    return figure


def _line(axes: Axes, y: int, errors: Sequence[float], edge: float, colour: str) -> None:
    inside = [error for error in errors if abs(error) < edge]
    axes.plot(inside, [y] * len(inside), "o", color=colour, markersize=4, alpha=0.7, markeredgewidth=0)
    for error in (error for error in errors if abs(error) >= edge):
        side = 1 if error > 0 else -1
        axes.plot([side * edge * 0.985], [y], ">" if side > 0 else "<", color=colour, markersize=5)
        where = "right" if side > 0 else "left"
        axes.text(side * edge * 0.96, y, f"{error:+.0f} %", fontsize=7, va="center", ha=where)


def _heading(name: str) -> str:
    return textwrap.fill(plain(name, 2 * _HEADING), _HEADING)


def _geometry(pair: PredictedRow) -> str:
    match = _GEOMETRY.match(pair.block)
    return match[1] if match else pair.block


def _mean(errors: Sequence[float]) -> float:
    return sum(map(abs, errors)) / len(errors)
