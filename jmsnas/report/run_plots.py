"""Plots of a run: training curves of the search, accuracy of U(.), and T of the split against other plans."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jmsnas.nas.search.stages import EpochRecord
from jmsnas.origin import NOT_EVALUATED, origin_label
from jmsnas.report.device_data import DeviceData
from jmsnas.report.estimator_plots import AGAINST, scatter
from jmsnas.report.plot_style import (
    BLACK,
    BLUE,
    DEVICE_COLOURS,
    GREEN,
    GREY,
    LINK_COLOURS,
    ORANGE,
    ORIGIN_COLOURS,
    ORIGIN_HATCHES,
    RED,
    end_at_100_percent,
    milliseconds,
    new_figure,
    percent,
    plain,
    title,
)
from jmsnas.report.report_data import ReportData
from jmsnas.report.term_schedule import ScheduledTerm, schedule_terms
from jmsnas.topology import INPUT_BYTES

_STAGES = {"warm-up": "warm-up", "search": "search", "final": "second stage"}


def draw_search(data: ReportData) -> Figure:
    """Draw loss, accuracy, E[T] / T_const with its band, and entropy, epoch by epoch."""
    figure = new_figure(10, 6.2)
    loss, right, expected, entropy = figure.subplots(2, 2, sharex=True).flat
    epochs, target_s = data.epochs, data.run.target.t_const_s
    _curve(loss, [e.loss for e in epochs], BLUE, "-", "weights (training images)")
    _curve(loss, [e.arch_loss for e in epochs], ORANGE, "--", "architecture (its own images)")
    _curve(right, _percent([e.accuracy for e in epochs]), BLUE, "-", "weights (training images)")
    _curve(right, _percent([e.arch_accuracy for e in epochs]), ORANGE, "--", "architecture (its own images)")
    then = _percent([e.derived_accuracy for e in epochs])
    _curve(right, then, GREEN, "-", "model derived then (validation images)")
    test = 100 * data.run.accuracy.test
    right.plot(
        [len(epochs)],
        [test],
        "*",
        color=RED,
        markersize=12,
        clip_on=False,
        label=f"test {test:.1f} %",
        zorder=5,
    )
    end_at_100_percent(right)
    band, ratio = data.config.band, [_over(e.expected_latency_s, target_s) for e in epochs]
    expected.axhspan(1 - band, 1, color=GREEN, alpha=0.3, label=f"band: {1 - band:.2f} to 1")
    _curve(expected, ratio, BLUE, "-", "E[T] / T_const")
    then = [_over(e.derived_latency_s, target_s) for e in epochs]
    _curve(expected, then, GREEN, "--", "model derived then")
    searched = sum(e.stage != "final" for e in epochs)
    derived = data.derived.latency_s / target_s
    expected.plot([searched], [derived], "D", color=RED, label=f"derived model {derived:.3f}", zorder=5)
    _curve(entropy, [e.entropy for e in epochs], BLUE, "-", "mean over layers")
    titles = ("Loss (cross-entropy)", "Accuracy, %", "E[T] / T_const", "Entropy of the choices, nats")
    for axes, text in zip((loss, right, expected, entropy), titles, strict=True):
        title(axes, text)
        _stages(axes, epochs)
        axes.legend(fontsize=8, loc="upper left" if axes is right else "upper right")
    right.set_yticks(range(0, 101, 20))
    for axes in (expected, entropy):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _curve(axes: Axes, values: list[float | None], colour: str, line: str, label: str) -> None:
    known = [(n + 1, value) for n, value in enumerate(values) if value is not None]
    if known:
        marker = "o" if len(known) < 3 else None
        axes.plot(*zip(*known, strict=True), line, color=colour, marker=marker, label=label)


def _percent(fractions: list[float | None]) -> list[float | None]:
    return [None if fraction is None else 100 * fraction for fraction in fractions]


def _over(value: float | None, by: float) -> float | None:
    return None if value is None else value / by


def _stages(axes: Axes, epochs: tuple[EpochRecord, ...]) -> None:
    """Shade every second stage, and label each at the bottom of the panel."""
    axes.set_xlim(0.5, len(epochs) + 0.5)
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.08 * (high - low), high + 0.3 * (high - low))  # space for labels and the legend
    axes.grid(alpha=0.25)
    start = 0
    for n, (stage, name) in enumerate(_STAGES.items()):
        count = sum(epoch.stage == stage for epoch in epochs)
        if count:
            axes.axvspan(start + 0.5, start + count + 0.5, color=GREY, alpha=0.13 * (n % 2), linewidth=0)
            where = (start + 0.5 + count / 2, 0.02)
            axes.text(
                *where, name, transform=axes.get_xaxis_transform(), ha="center", fontsize=8, color="#555"
            )
        start += count


def draw_estimators(data: ReportData) -> Figure:
    """Draw predicted against measured latency of blocks with held-out geometries, a panel for each table."""
    tables: dict[tuple[str, str], list[DeviceData]] = {}
    for device in data.devices:
        tables.setdefault((device.device.table, device.device.runtime), []).append(device)
    columns = min(len(tables), 4)
    rows = -(-len(tables) // columns)
    figure = new_figure(3.2 * columns + 0.4, 3.7 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for axes, devices in zip(panels, tables.values(), strict=False):
        _estimator(axes, ", ".join(device.device.name for device in devices), devices[0])
    for axes in list(panels)[len(tables) :]:
        axes.set_axis_off()
    return figure


def _estimator(axes: Axes, names: str, device: DeviceData) -> None:
    name = plain(names)
    evaluation = device.evaluation
    if evaluation is None:
        title(axes, f"{name}\nno U(.) in this workspace", device.simulated, device.published)
        axes.set_axis_off()
        return
    heading = (
        f"{name}\nMAPE {percent(evaluation.model.mape)}, {100 * evaluation.model.within_10:.0f} % within 10 %"
    )
    if device.simulated:
        heading = f"{name}\n{NOT_EVALUATED}"
    title(axes, heading, device.simulated, device.published)
    scatter(axes, evaluation, ORIGIN_COLOURS[device.origin])
    axes.set_xlabel(AGAINST.get(device.origin, "measured, ms"))
    axes.set_ylabel("predicted, ms")


def draw_plan_comparison(data: ReportData) -> Figure:
    """Draw T of the derived model, the argmax model and cloud only as stacked terms, with T_const."""
    bars = [("derived model", data.derived.schedule), ("argmax model", data.argmax.schedule)]
    own = data.run.topology.input_encoding
    encodings = [own, *(name for name in INPUT_BYTES if name != own)]
    for name in encodings:
        alone = schedule_terms(data.cloud_terms(name), data.cloud_route(name))
        bars.append((f"cloud only,\n{name} input", alone))
    figure = new_figure(10, 5.6 if data.tree else 4.6)
    axes = figure.subplots()
    for y, (_, schedule) in enumerate(bars):
        for term in schedule:
            _bar(axes, y, term, data)
        total_s = max(term.end_s for term in schedule)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        where, shift = (total_s * 1e3, y), (8, 0)
        axes.annotate(
            milliseconds(total_s), where, shift, textcoords="offset points", va="center", fontsize=9, bbox=box
        )
    axes.axvline(data.run.target.t_const_s * 1e3, color=BLACK, linestyle="--", linewidth=1.4, zorder=0.5)
    label = f"T_const {milliseconds(data.run.target.t_const_s)}  "
    axes.text(data.run.target.t_const_s * 1e3, -0.62, label, ha="right", va="center", fontsize=9)
    axes.set_yticks(range(len(bars)), [name for name, _ in bars])
    axes.set(ylim=(len(bars) - 0.5, -0.9), xlabel="T, ms")
    axes.margins(x=0.14)
    axes.set_xlim(left=0)
    handles, names = axes.get_legend_handles_labels()
    unique = dict(zip(names, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=4, fontsize=8)
    filled = {"hatched": data.simulated, "dotted": data.published}
    fills = " or ".join(fill for fill, names in filled.items() if names)
    heading = f"where {fills}: " if fills else ""
    heading += f"T of equation {data.equation} by term"
    heading += "; branches in parallel" if data.tree else ""
    title(axes, heading, bool(data.simulated), bool(data.published))
    return figure


def _bar(axes: Axes, y: float, term: ScheduledTerm, data: ReportData) -> None:
    """Draw one term; hatched or dotted if not measured here. Branches term the height of the bar."""
    name, height = plain(term.device, 14), 0.6
    m = [device.device.name for device in data.devices].index(term.device)
    if term.branch is not None and data.tree:
        height /= len(data.tree.children)
        y += (term.branch - (len(data.tree.children) - 1) / 2) * height
    if term.target:
        colour, hatch = LINK_COLOURS[m % len(LINK_COLOURS)], ""
        label = f"send {name} to {plain(term.target, 14)}"
    else:
        origin = data.devices[m].origin
        colour, hatch = DEVICE_COLOURS[m % len(DEVICE_COLOURS)], ORIGIN_HATCHES.get(origin, "")
        label = f"compute on {name}" + ("" if origin == "measured" else f" ({origin_label(origin)})")
    axes.barh(
        y, term.seconds * 1e3, height, term.start_s * 1e3,
        color=colour, hatch=hatch, edgecolor="white", linewidth=0.6, label=label,
    )  # fmt: skip
