"""Plot the best split by input size and link rate: the `imagenet` space on a chain of SIMULATED devices."""

import functools
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import NDArray

from jmsnas.arrays import BoolArray, FloatArray, IntArray
from jmsnas.nas.latency.split_map import SplitMap, default_architecture, simulated_predictors, split_map
from jmsnas.report.plot_style import BLACK, RED, SIMULATED_COLOUR, milliseconds, new_figure, plain
from jmsnas.space_file import load_space
from jmsnas.topology import INPUT_BYTES, load_topology

# Table I of the paper (the wireless link behind the UE), and the size of its images.
TABLE_I_BPS, TABLE_I_SIZE = 25e6, 224
_SIZES = tuple(range(64, 321, 16))
_RATES_BPS = tuple(sorted({TABLE_I_BPS, *(float(rate) for rate in np.geomspace(1e6, 1e9, 31))}))
# Smaller regions of a panel are not labelled.
_LEAST_SHARE = 0.05
_SCALE, _COLOURS = Normalize(0, 1), "cividis"


@dataclass(frozen=True, slots=True)
class SplitMapPanel:
    """Split maps of one input encoding under both policies, and the indices of Table I's point in them."""

    devices: tuple[str, ...]
    relay: SplitMap
    strict: SplitMap
    point: tuple[int, int]


@functools.cache
def compute_split_maps() -> tuple[SplitMapPanel, ...]:
    """Compute the maps of each input encoding from published device figures; takes about 1 s."""
    space, topology = load_space("imagenet"), load_topology("chain")
    model, predictors = default_architecture(space), simulated_predictors(topology)
    devices = tuple(device.name for device in topology.devices)
    point = (_SIZES.index(TABLE_I_SIZE), _RATES_BPS.index(TABLE_I_BPS))
    panels = []
    for encoding in INPUT_BYTES:
        relay, strict = (
            split_map(
                space,
                model,
                replace(topology, policy=policy, input_encoding=encoding),
                predictors,
                _SIZES,
                _RATES_BPS,
            )
            for policy in ("relay", "strict")
        )
        panels.append(SplitMapPanel(devices, relay, strict, point))
    return tuple(panels)


def placement_label(devices: tuple[str, ...], layers: IntArray) -> str:
    """Describe a placement by the devices that run layers: `all on cloud`, `split: pi4 + laptop`."""
    running = [name for name, count in zip(devices, layers, strict=True) if count]
    return f"all on {running[0]}" if len(running) == 1 else f"split: {' + '.join(running)}"


def placement_labels(panel: SplitMapPanel) -> NDArray[np.str_]:
    """Describe the best placement of each point of the map, (S, K)."""
    layers_SKM = panel.relay.layers_SKM
    names = [[placement_label(panel.devices, layers_M) for layers_M in layers_KM] for layers_KM in layers_SKM]
    return np.array(names)


def draw_split_maps(panels: tuple[SplitMapPanel, ...]) -> Figure:
    """Draw the ratio of T of the best placement to T of cloud only, by first-link rate and input size."""
    figure = new_figure(11, 5.8)
    colours = ScalarMappable(_SCALE, _COLOURS)
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, panel in zip(all_axes, panels, strict=True):
        _panel(axes, panel)
    all_axes[0].set_ylabel("input height and width, pixels")
    bar = figure.colorbar(colours, ax=list(all_axes), shrink=0.85)
    bar.set_label("T of the best placement / T of cloud only")
    names = " - ".join(plain(name) for name in panels[0].devices)
    heading = f"SIMULATED: best placement against cloud only, imagenet space on {names}"
    _legend(figure)
    figure.suptitle(heading, fontsize=11, color=SIMULATED_COLOUR)
    return figure


def _panel(axes: Axes, panel: SplitMapPanel) -> None:
    relay = panel.relay
    rates, sizes = np.array(relay.rates_bps) / 1e6, np.array(relay.sizes)
    ratio_SK = relay.best_SK / relay.cloud_SK
    axes.pcolormesh(rates, sizes, ratio_SK, norm=_SCALE, cmap=_COLOURS, shading="nearest")
    _hatch(axes, rates, sizes, (relay.layers_SKM > 0).sum(axis=-1) > 1)
    _outline(axes, rates, sizes, relay.cuts_SKM[..., 0] > 0, 0.5, RED)
    _outline(axes, rates, sizes, panel.strict.best_SK / relay.cloud_SK, 1.0, "white")
    for name in np.unique(names_SK := placement_labels(panel)):
        _name_region(axes, rates, sizes, names_SK == name, str(name))
    axes.plot(
        TABLE_I_BPS / 1e6, TABLE_I_SIZE, "*", color=RED, markersize=15, markeredgecolor="white", zorder=6
    )
    times = (relay.cloud_SK, relay.best_SK, panel.strict.best_SK)
    cloud, best, strict = (milliseconds(float(found_SK[panel.point])) for found_SK in times)
    axes.set_title(
        f"{relay.input_encoding} input. At Table I: cloud only {cloud},\n"
        f"best {best} ({placement_label(panel.devices, relay.layers_SKM[panel.point])}),\n"
        f"a layer on every device {strict}",
        fontsize=9,
        loc="left",
    )
    ticks = [tick for tick in (1, 3, 10, 25, 100, 300, 1000) if rates[0] <= tick <= rates[-1]]
    axes.set(xscale="log", xlim=(rates[0], rates[-1]), ylim=(sizes[0], sizes[-1]))
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("rate of the UE's link, Mbit/s")


def _legend(figure: Figure) -> None:
    outlined = [Stroke(linewidth=4, foreground=BLACK), Normal()]
    handles: dict[str, Artist] = {
        "the best placement has several devices": Patch(fc="#8A8A8A", ec="white", hatch="///", lw=0),
        "left of the line the UE runs layers": Line2D([], [], color=RED, linewidth=2),
        "a layer on EVERY device is as fast as cloud only": Line2D(
            [], [], color="white", linewidth=2, linestyle="--", path_effects=outlined
        ),
        "Table I: 25 Mbit/s, 224x224": Line2D([], [], color=RED, marker="*", markersize=12, linestyle=""),
    }
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=2, fontsize=8)


def _hatch(axes: Axes, rates: FloatArray, sizes: IntArray, mask: BoolArray) -> None:
    if mask.any():
        contours = axes.contourf(rates, sizes, mask, levels=[0.5, 1.5], colors="none", hatches=["///"])
        contours.set_edgecolor("white")
        contours.set_linewidth(0)


def _outline(
    axes: Axes, rates: FloatArray, sizes: IntArray, z_SK: FloatArray | BoolArray, level: float, colour: str
) -> None:
    """Draw the contour of `z_SK` at `level`, if it has one; dashed if white."""
    if z_SK.min() < level < z_SK.max():
        style = "--" if colour == "white" else "-"
        lines = axes.contour(rates, sizes, z_SK, [level], colors=colour, linewidths=2, linestyles=style)
        if style == "--":
            lines.set_path_effects([Stroke(linewidth=4, foreground=BLACK), Normal()])


def _name_region(axes: Axes, rates: FloatArray, sizes: IntArray, mask: BoolArray, name: str) -> None:
    if mask.mean() < _LEAST_SHARE:
        return
    rows, columns = np.nonzero(mask)
    x, y = np.exp(np.log(rates[columns]).mean()), sizes[rows].mean()
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2}
    narrow = np.ptp(np.log10(rates[columns])) < 0.8
    axes.text(
        x, y, plain(name, 40), rotation=90 if narrow else 0, ha="center", va="center", fontsize=8, bbox=box
    )
