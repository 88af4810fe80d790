"""Where the time of each block goes, as a picture: a bar a block, a colour a stage."""

from collections.abc import Sequence
from io import BytesIO

from matplotlib import rc_context
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
# More cannot be read on one page.
_MOST_BARS = 60
# Inches: a bar's row, and what title, axes and legend take. A geometry's name takes so many rows.
_ROW, _MARGIN = 0.19, 1.5
_HEADING = 1.4


def draw_breakdown(device: str, found: Sequence[Breakdown]) -> Figure:
    """Draw a bar a block, stacked by stage, under the geometry of its layer; the largest first.

    Geometries keep the order given. A bar is as long as the sum of the block's stages. Of more than 60
    blocks the 60 most costly are drawn.

    Parameters
    ----------
    device
        Whose times they are.
    found
        One breakdown or more.
    """
    costly = sorted(found, key=sum_of_stages_s, reverse=True)[:_MOST_BARS]
    layers = dict.fromkeys(each.block.layer for each in found if each in costly)
    unit, a_unit = ("ms", 1e3) if sum_of_stages_s(costly[0]) >= 1e-3 else ("us", 1e6)
    rows = len(costly) + _HEADING * len(layers)
    figure = new_figure(10, _MARGIN + _ROW * rows)
    axes = figure.subplots()
    y, names = 0.0, dict[float, str]()
    for layer in layers:
        y += _HEADING
        axes.text(0, y - 0.9, f" {layer}", va="center", fontsize=8, fontweight="bold", color=BLACK)
        for each in costly:
            if each.block.layer == layer:
                _bar(axes, y, each, a_unit)
                names[y] = each.block.candidate.name
                y += 1
    axes.set_yticks(list(names), list(names.values()), fontsize=7)
    axes.set(xlim=(0, 1.08 * a_unit * sum_of_stages_s(costly[0])), ylim=(y, -0.3))
    axes.set_xlabel(f"{unit}, sum of the stages (one CPU thread, batch 1)", fontsize=9)
    axes.tick_params(axis="x", top=True, labeltop=True, labelsize=8)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    shown = [stage for stage in STAGES if stage in unique]
    figure.legend([unique[stage] for stage in shown], shown, loc="outside lower center", ncols=8, fontsize=8)
    title(axes, _title(device, len(costly), len(found)))
    return figure


def svg(figure: Figure) -> bytes:
    """Draw a figure as an SVG file; the same figure gives the same bytes."""
    file = BytesIO()
    with rc_context({"font.family": "DejaVu Sans", "svg.hashsalt": "jmsnas"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _title(device: str, drawn: int, of: int) -> str:
    which = f"the {drawn} most costly of {of} blocks" if drawn < of else "every block"
    return (
        f"Where the time of {which} goes on {plain(device)},\n"
        "as torchprof sees it (eager torch, its hooks included)"
    )


def _bar(axes: Axes, y: float, found: Breakdown, a_unit: float) -> None:
    reached = 0.0
    for stage, seconds in found.stages:
        axes.barh(
            y,
            seconds * a_unit,
            left=reached,
            height=0.8,
            color=_COLOURS[stage],
            edgecolor="white",
            linewidth=0.4,
            label=stage,
        )
        reached += seconds * a_unit
    length = f"{reached:#.3g}".rstrip(".")
    axes.annotate(length, (reached, y), (3, 0), textcoords="offset points", va="center", fontsize=7)
