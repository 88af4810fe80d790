"""Pictures of a run: how the search went, how good U(.) is, and what T is made of beside other plans."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jmsnas.nas.search.stages import EpochRecord
from jmsnas.origin import origin_label
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
    milliseconds,
    new_figure,
    percent,
    plain,
    title,
)
from jmsnas.report.report_data import ReportData
from jmsnas.report.term_schedule import ScheduledTerm, shares
from jmsnas.topology import INPUT_BYTES

_STAGES = {"warm-up": "warm-up", "search": "search", "final": "second stage"}


def draw_search(facts: ReportData) -> Figure:
    """Draw loss, accuracy, E[T] / T_const with its band, and entropy, epoch by epoch."""
    figure = new_figure(10, 6.2)
    loss, right, expected, entropy = figure.subplots(2, 2, sharex=True).flat
    epochs, target_s = facts.epochs, facts.run.target.t_const_s
    _curve(loss, [e.loss for e in epochs], BLUE, "-", "weights (training images)")
    _curve(loss, [e.arch_loss for e in epochs], ORANGE, "--", "architecture (its own images)")
    _curve(right, _percent([e.accuracy for e in epochs]), BLUE, "-", "weights (training images)")
    _curve(right, _percent([e.arch_accuracy for e in epochs]), ORANGE, "--", "architecture (its own images)")
    then = _percent([e.derived_accuracy for e in epochs])
    _curve(right, then, GREEN, "-", "network derived then (images kept apart)")
    test = 100 * facts.run.accuracy.test
    right.plot([len(epochs)], [test], "*", color=RED, markersize=12, label=f"test {test:.1f} %", zorder=5)
    band, ratio = facts.config.band, [_over(e.expected_latency_s, target_s) for e in epochs]
    expected.axhspan(1 - band, 1, color=GREEN, alpha=0.3, label=f"band: {1 - band:.2f} to 1")
    _curve(expected, ratio, BLUE, "-", "E[T] / T_const")
    then = [_over(e.derived_latency_s, target_s) for e in epochs]
    _curve(expected, then, GREEN, "--", "network derived then")
    searched = sum(e.stage != "final" for e in epochs)
    derived = facts.derived.latency_s / target_s
    expected.plot([searched], [derived], "D", color=RED, label=f"derived network {derived:.3f}", zorder=5)
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


def _percent(shares: list[float | None]) -> list[float | None]:
    return [None if share is None else 100 * share for share in shares]


def _over(value: float | None, by: float) -> float | None:
    return None if value is None else value / by


def _stages(axes: Axes, epochs: tuple[EpochRecord, ...]) -> None:
    """Shade every second stage and name each at the foot of the panel."""
    axes.set_xlim(0.5, len(epochs) + 0.5)
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.08 * (high - low), high + 0.3 * (high - low))  # room for names and the legend
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


def draw_estimators(facts: ReportData) -> Figure:
    """Draw predicted against measured latencies of blocks whose geometry U(.) never saw, table by table."""
    tables: dict[tuple[str, str], list[DeviceData]] = {}
    for device in facts.devices:
        tables.setdefault((device.device.table, device.device.runtime), []).append(device)
    columns = min(len(tables), 4)
    rows = -(-len(tables) // columns)
    figure = new_figure(3.2 * columns + 0.4, 3.7 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for axes, alike in zip(panels, tables.values(), strict=False):
        _estimator(axes, ", ".join(its.device.name for its in alike), alike[0])
    for axes in list(panels)[len(tables) :]:
        axes.set_axis_off()
    return figure


def _estimator(axes: Axes, names: str, facts: DeviceData) -> None:
    name = plain(names)
    found = facts.evaluation
    if found is None:
        title(axes, f"{name}\nno U(.) in this workspace", facts.simulated, facts.published)
        axes.set_axis_off()
        return
    heading = f"{name}\nMAPE {percent(found.model.mape)}, {100 * found.model.within_10:.0f} % within 10 %"
    title(axes, heading, facts.simulated, facts.published)
    scatter(axes, found, ORIGIN_COLOURS[facts.origin])
    axes.set_xlabel(AGAINST.get(facts.origin, "measured, ms"))
    axes.set_ylabel("predicted, ms")


def draw_plan_comparison(facts: ReportData) -> Figure:
    """Draw T of four plans as bars of the terms of equation (1) or (2), with T_const."""
    bars = [("derived network", facts.derived.shares), ("argmax network", facts.argmax.shares)]
    own = facts.run.topology.input_encoding
    encodings = [own, *(name for name in INPUT_BYTES if name != own)]
    for name in encodings:
        alone = shares(facts.cloud_terms(name), facts.cloud_way(name))
        bars.append((f"cloud only,\n{name} input", alone))
    figure = new_figure(10, 5.6 if facts.tree else 4.6)
    axes = figure.subplots()
    for y, (_, plan) in enumerate(bars):
        for share in plan:
            _bar(axes, y, share, facts)
        total_s = max(share.end_s for share in plan)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        where, shift = (total_s * 1e3, y), (8, 0)
        axes.annotate(
            milliseconds(total_s), where, shift, textcoords="offset points", va="center", fontsize=9, bbox=box
        )
    axes.axvline(facts.run.target.t_const_s * 1e3, color=BLACK, linestyle="--", linewidth=1.4, zorder=0.5)
    label = f"T_const {milliseconds(facts.run.target.t_const_s)}  "
    axes.text(facts.run.target.t_const_s * 1e3, -0.62, label, ha="right", va="center", fontsize=9)
    axes.set_yticks(range(len(bars)), [name for name, _ in bars])
    axes.set(ylim=(len(bars) - 0.5, -0.9), xlabel="T, ms")
    axes.margins(x=0.14)
    axes.set_xlim(left=0)
    handles, names = axes.get_legend_handles_labels()
    unique = dict(zip(names, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=4, fontsize=8)
    filled = {"hatched": facts.simulated, "dotted": facts.published}
    said = " or ".join(how for how, names in filled.items() if names)
    said = f"where {said}: " if said else ""
    said += f"T of equation {facts.equation}, term by term"
    beside = "; branches side by side" if facts.tree else ""
    title(axes, f"{said}{beside}", bool(facts.simulated), bool(facts.published))
    return figure


def _bar(axes: Axes, y: float, share: ScheduledTerm, facts: ReportData) -> None:
    """Draw one term; what was not measured here is hatched or dotted, a branch has a lane of the bar."""
    name, height = plain(share.device, 14), 0.6
    m = [its.device.name for its in facts.devices].index(share.device)
    if share.lane is not None and facts.tree:
        height /= len(facts.tree.children)
        y += (share.lane - (len(facts.tree.children) - 1) / 2) * height
    if share.target:
        colour = LINK_COLOURS[m % len(LINK_COLOURS)]
        label = f"send {name} to {plain(share.target, 14)}"
        _share(axes, y, share, height, colour, "", label)
        return
    origin = facts.devices[m].origin
    said, hatch = "" if origin == "measured" else f" ({origin_label(origin)})", ORIGIN_HATCHES.get(origin, "")
    colour = DEVICE_COLOURS[m % len(DEVICE_COLOURS)]
    _share(axes, y, share, height, colour, hatch, f"compute on {name}{said}")


def _share(
    axes: Axes, y: float, share: ScheduledTerm, height: float, colour: str, hatch: str, label: str
) -> None:
    axes.barh(
        y,
        share.seconds * 1e3,
        left=share.start_s * 1e3,
        height=height,
        color=colour,
        hatch=hatch,
        edgecolor="white",
        linewidth=0.6,
        label=label,
    )
