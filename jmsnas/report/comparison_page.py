"""Fig. 5 and Fig. 6 of the paper on the user's own devices: pictures, a CSV table, one HTML page."""

import base64
import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jmsnas.files import make_folder, write_atomic
from jmsnas.nas.comparison import PAPER_SIZE, ComparisonEntry, SearchedRun, input_shape_and_classes
from jmsnas.report.plot_style import (
    DEVICE_COLOURS,
    GREY,
    milliseconds,
    new_figure,
    percent,
    plain,
    plain_ticks,
    png,
    title,
)

_LINES = {"chain": "-", "mesh": "--"}
_MARKS = {"searched": "*", "cloud": "s", "hivemind": "o", "neurosurgeon": "D", "device": "^"}
# HiveMind's best plan is often Neurosurgeon's: it is a ring around that.
_MARK_SIZES = {"searched": 13, "hivemind": 12}


def draw_fig5(runs: Sequence[SearchedRun]) -> Figure:
    """Draw the accuracy of the network derived at each epoch, for each target: the paper's Fig. 5."""
    figure = new_figure(7.5, 4.4)
    axes = figure.subplots()
    for k, run in enumerate(runs):
        known = [its for its in run.epochs if its.derived_accuracy is not None]
        label = f"{run.topology}, T_const {milliseconds(run.result.target.t_const_s)}"
        axes.plot(
            [its.epoch for its in known],
            [100 * (its.derived_accuracy or 0) for its in known],
            _LINES[run.topology],
            marker="." if len(known) < 20 else None,
            color=DEVICE_COLOURS[k % len(DEVICE_COLOURS)],
            label=label,
        )
    axes.set(xlabel="epoch of stage one", ylabel="accuracy of the derived network, %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _heading(axes, "accuracy by epoch and target", runs)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
    return figure


def draw_fig6(entries: Sequence[ComparisonEntry]) -> Figure:
    """Draw final accuracy against T, every network under every method: the paper's Fig. 6."""
    figure = new_figure(8, 4.8)
    axes = figure.subplots()
    names = list(dict.fromkeys((its.network, its.topology) for its in entries))
    for its in entries:
        if its.accuracy is None or its.latency_s is None:
            continue
        colour = DEVICE_COLOURS[names.index((its.network, its.topology)) % len(DEVICE_COLOURS)]
        label, ring = f"{its.network} ({its.topology}), {its.method}", its.method == "hivemind"
        axes.plot(
            its.latency_s * 1e3, 100 * its.accuracy, _MARKS[its.method], color=colour, label=plain(label, 48),
            markersize=_MARK_SIZES.get(its.method, 7), markeredgecolor=colour if ring else GREY,
            markerfacecolor="none" if ring else colour, markeredgewidth=2 if ring else 1,
        )  # fmt: skip
    axes.set(xlabel="T, ms", ylabel="test accuracy, %", xscale="log")
    plain_ticks(axes.xaxis)
    _heading(axes, "accuracy against latency", entries)
    axes.grid(alpha=0.25)
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    if once:
        axes.legend(list(once.values()), list(once), fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _heading(axes: Axes, text: str, shown: Sequence[SearchedRun | ComparisonEntry]) -> None:
    """Say what is simulated, or published by others: T, and no accuracy."""
    simulated, published = any(its.simulated for its in shown), any(its.published for its in shown)
    title(axes, f"T; {text}" if simulated or published else text, simulated, published)


def svg(figure: Figure) -> bytes:
    """Draw a figure as SVG."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def csv_text(entries: Sequence[ComparisonEntry]) -> str:
    """Give the table as CSV; seconds, bytes, joules; empty where nothing is known."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([its.name for its in fields(ComparisonEntry)])
    for entry in entries:
        writer.writerow(["" if value is None else value for value in asdict(entry).values()])
    return file.getvalue()


def write_comparison(runs: Sequence[SearchedRun], entries: Sequence[ComparisonEntry], folder: Path) -> Path:
    """Write `fig5` and `fig6` as PNG and SVG, `compare.csv`, and `compare.html`; gives the page.

    Raises
    ------
    StorageError
        When a file cannot be written.
    """
    make_folder(folder)
    figures = {"fig5": draw_fig5(runs), "fig6": draw_fig6(entries)}
    pictures = {name: png(figure) for name, figure in figures.items()}
    for name, figure in figures.items():
        write_atomic(folder / f"{name}.png", pictures[name])
        write_atomic(folder / f"{name}.svg", svg(figure))
    write_atomic(folder / "compare.csv", csv_text(entries).encode())
    write_atomic(folder / "compare.html", _page(runs, entries, pictures).encode())
    return folder / "compare.html"


def _page(runs: Sequence[SearchedRun], entries: Sequence[ComparisonEntry], pictures: dict[str, bytes]) -> str:
    """Fill the page's template; all that was read is escaped."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(ms=milliseconds, percent=percent)
    origins = [pair for run in runs for pair in run.result.origins.items()]
    sizes = sorted({its.size for its in entries})
    template = resources.files("jmsnas.report").joinpath("compare.html.jinja").read_text("utf-8")
    return environment.from_string(template).render(
        runs=runs,
        paper_size=PAPER_SIZE,
        tables=[(size, [its for its in entries if its.size == size]) for size in sizes],
        channels=sorted({input_shape_and_classes(run)[0][0] for run in runs}),
        powered=any(its.energy_j is not None for its in entries),
        simulated=sorted({name for name, origin in origins if origin == "simulated"}),
        published=sorted({name for name, origin in origins if origin == "published"}),
        **{name: base64.b64encode(content).decode() for name, content in pictures.items()},
    )
