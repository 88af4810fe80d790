"""Write the comparison of searched models with MobileNets: Fig. 5 and 6 of the paper, CSV, HTML page."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jmsnas.csv_file import cell_of_text
from jmsnas.files import make_folder, write_atomic
from jmsnas.nas.comparison import PAPER_SIZE, ComparisonEntry, SearchedRun, input_shape_and_classes
from jmsnas.report.html_template import load_template
from jmsnas.report.plot_style import (
    DEVICE_COLOURS,
    GREY,
    end_at_100_percent,
    milliseconds,
    new_figure,
    plain,
    plain_ticks,
    png,
    svg,
    title,
)

_LINES = {"chain": "-", "mesh": "--"}
_MARKS = {"searched": "*", "cloud": "s", "hivemind": "o", "neurosurgeon": "D", "device": "^"}
# HiveMind's best placement is often that of Neurosurgeon: it is drawn as a ring around it.
_MARK_SIZES = {"searched": 13, "hivemind": 12}


def draw_fig5(runs: Sequence[SearchedRun]) -> Figure:
    """Draw the accuracy of the model derived at each epoch, for each target: Fig. 5 of the paper."""
    figure = new_figure(7.5, 4.4)
    axes = figure.subplots()
    for k, run in enumerate(runs):
        epochs = [epoch for epoch in run.epochs if epoch.derived_accuracy is not None]
        label = f"{run.topology}, T_const {milliseconds(run.result.target.t_const_s)}"
        axes.plot(
            [epoch.epoch for epoch in epochs],
            [100 * (epoch.derived_accuracy or 0) for epoch in epochs],
            _LINES[run.topology],
            marker="." if len(epochs) < 20 else None,
            color=DEVICE_COLOURS[k % len(DEVICE_COLOURS)],
            label=label,
        )
    axes.set(xlabel="epoch of stage one", ylabel="accuracy of the derived model, %")
    end_at_100_percent(axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _heading(axes, "accuracy by epoch and target", runs)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
    return figure


def draw_fig6(entries: Sequence[ComparisonEntry]) -> Figure:
    """Draw final accuracy against T of every model under every split method: Fig. 6 of the paper."""
    figure = new_figure(8, 4.8)
    axes = figure.subplots()
    names = list(dict.fromkeys((entry.network, entry.topology) for entry in entries))
    for entry in entries:
        if entry.accuracy is None or entry.latency_s is None:
            continue
        colour = DEVICE_COLOURS[names.index((entry.network, entry.topology)) % len(DEVICE_COLOURS)]
        label, ring = f"{entry.network} ({entry.topology}), {entry.method}", entry.method == "hivemind"
        axes.plot(
            entry.latency_s * 1e3, 100 * entry.accuracy, _MARKS[entry.method],
            color=colour, label=plain(label, 48),
            markersize=_MARK_SIZES.get(entry.method, 7), markeredgecolor=colour if ring else GREY,
            markerfacecolor="none" if ring else colour, markeredgewidth=2 if ring else 1, clip_on=False,
        )  # fmt: skip
    axes.set(xlabel="T, ms", ylabel="test accuracy, %", xscale="log")
    end_at_100_percent(axes)
    plain_ticks(axes.xaxis)
    _heading(axes, "accuracy against latency", entries)
    axes.grid(alpha=0.25)
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    if once:
        axes.legend(list(once.values()), list(once), fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _heading(axes: Axes, text: str, shown: Sequence[SearchedRun | ComparisonEntry]) -> None:
    """Set the title, which marks T, not the accuracy, as simulated or published."""
    simulated, published = any(entry.simulated for entry in shown), any(entry.published for entry in shown)
    title(axes, f"T; {text}" if simulated or published else text, simulated, published)


def csv_text(entries: Sequence[ComparisonEntry]) -> str:
    """Format the table as CSV; seconds, bytes, joules; unknown values are empty."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([field.name for field in fields(ComparisonEntry)])
    for entry in entries:
        values = asdict(entry).values()
        writer.writerow([cell_of_text(value) if isinstance(value, str) else value for value in values])
    return file.getvalue()


def write_comparison(runs: Sequence[SearchedRun], entries: Sequence[ComparisonEntry], folder: Path) -> Path:
    """Write `fig5` and `fig6` as PNG and SVG, `compare.csv`, and `compare.html`; returns the page's path.

    Raises StorageError when a file cannot be written.
    """
    make_folder(folder)
    figures = {"fig5": draw_fig5(runs), "fig6": draw_fig6(entries)}
    plots = {name: png(figure) for name, figure in figures.items()}
    for name, figure in figures.items():
        write_atomic(folder / f"{name}.png", plots[name])
        write_atomic(folder / f"{name}.svg", svg(figure))
    write_atomic(folder / "compare.csv", csv_text(entries).encode())
    write_atomic(folder / "compare.html", _page(runs, entries, plots).encode())
    return folder / "compare.html"


def _page(runs: Sequence[SearchedRun], entries: Sequence[ComparisonEntry], plots: dict[str, bytes]) -> str:
    """Render the page's template; all values are HTML-escaped."""
    origins = [pair for run in runs for pair in run.result.origins.items()]
    sizes = sorted({entry.size for entry in entries})
    return load_template("comparison_page.html.jinja").render(
        runs=runs,
        paper_size=PAPER_SIZE,
        tables=[(size, [entry for entry in entries if entry.size == size]) for size in sizes],
        channels=sorted({input_shape_and_classes(run)[0][0] for run in runs}),
        powered=any(entry.energy_j is not None for entry in entries),
        simulated=sorted({name for name, origin in origins if origin == "simulated"}),
        published=sorted({name for name, origin in origins if origin == "published"}),
        plots=plots,
    )
