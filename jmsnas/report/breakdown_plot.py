"""Plot the latency of each block by stage: one stacked bar for each block."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jmsnas.profiler.session.breakdowns import STAGES, sum_of_stages_s
from jmsnas.profiler.timing.torchprof_backend import Breakdown
from jmsnas.report.plot_style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    YELLOW,
    new_figure,
    plain,
    title,
)

_COLOURS = dict(zip(STAGES, (BLUE, ORANGE, GREEN, RED, GREY, SKY, YELLOW, PURPLE), strict=True))
# More bars are not legible on one page.
_MOST_BARS = 60
# Inches of a bar's row, and of title, axes and legend together; rows of a geometry's heading.
_ROW, _MARGIN = 0.19, 1.5
_HEADING = 1.4


def draw_breakdown(device: str, breakdowns: Sequence[Breakdown]) -> Figure:
    """Draw one bar for each block, stacked by stage, grouped by layer geometry, the slowest block first.

    Geometries keep their order in `breakdowns`, at least one. At most the 60 slowest blocks are drawn.
    """
    slowest = sorted(breakdowns, key=sum_of_stages_s, reverse=True)[:_MOST_BARS]
    layers = dict.fromkeys(each.block.layer for each in breakdowns if each in slowest)
    unit, per_s = ("ms", 1e3) if sum_of_stages_s(slowest[0]) >= 1e-3 else ("us", 1e6)
    rows = len(slowest) + _HEADING * len(layers)
    figure = new_figure(10, _MARGIN + _ROW * rows)
    axes = figure.subplots()
    y, names = 0.0, dict[float, str]()
    for layer in layers:
        y += _HEADING
        axes.text(0, y - 0.9, f" {layer}", va="center", fontsize=8, fontweight="bold", color=BLACK)
        for each in slowest:
            if each.block.layer == layer:
                _bar(axes, y, each, per_s)
                names[y] = each.block.candidate.name
                y += 1
    axes.set_yticks(list(names), list(names.values()), fontsize=7)
    axes.set(xlim=(0, 1.08 * per_s * sum_of_stages_s(slowest[0])), ylim=(y, -0.3))
    axes.set_xlabel(f"{unit}, sum of the stages (one CPU thread, batch 1)", fontsize=9)
    axes.tick_params(axis="x", top=True, labeltop=True, labelsize=8)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    shown = [stage for stage in STAGES if stage in unique]
    figure.legend([unique[stage] for stage in shown], shown, loc="outside lower center", ncols=8, fontsize=8)
    title(axes, _title(device, len(slowest), len(breakdowns)))
    return figure


def _title(device: str, drawn: int, of: int) -> str:
    which = f"the {drawn} slowest of {of} blocks" if drawn < of else "every block"
    return (
        f"Latency by stage of {which} on {plain(device)},\n"
        "measured by torchprof (eager torch, its hooks included)"
    )


def _bar(axes: Axes, y: float, breakdown: Breakdown, per_s: float) -> None:
    end = 0.0
    for stage, seconds in breakdown.stages:
        axes.barh(
            y,
            seconds * per_s,
            left=end,
            height=0.8,
            color=_COLOURS[stage],
            edgecolor="white",
            linewidth=0.4,
            label=stage,
        )
        end += seconds * per_s
    length = f"{end:#.3g}".rstrip(".")
    axes.annotate(length, (end, y), (3, 0), textcoords="offset points", va="center", fontsize=7)
