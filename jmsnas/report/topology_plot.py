"""Plot a topology: a box for each device, an arrow for each link, with their figures."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from jmsnas.device import Device
from jmsnas.report.plot_style import BLACK, GREY, MEASURED_COLOUR, new_figure, plain
from jmsnas.topology import Link, Topology
from jmsnas.units import format_duration

# Inches: width and height of a box, and the gaps between boxes.
_BOX, _HEIGHT, _GAP, _ROW_GAP = 1.9, 1.05, 1.35, 0.55
Place = tuple[float, float]


def draw_topology(topology: Topology) -> Figure:
    """Draw devices from left to right, the children of a tree below each other; measured ones in blue."""
    places = _places(topology)
    width = max(x for x, _ in places.values()) + _BOX
    height = max(y for _, y in places.values()) + _HEIGHT
    figure = new_figure(width + 0.4, height + 0.8)
    axes = figure.subplots()
    axes.set(xlim=(-0.1, width + 0.1), ylim=(height + 0.1, -0.1))
    axes.set_axis_off()
    for device in topology.devices:
        _draw_device(axes, places[device.name], device)
    for link in topology.links:
        _draw_link(axes, places[link.source], places[link.target], link)
    note = "blue: measured" if any(one.measured for one in topology.devices) else "as given in the file"
    figure.suptitle(
        f"{plain(topology.name, 40)}, policy {topology.policy}   ({note})", fontsize=11, color=BLACK
    )
    return figure


def _places(topology: Topology) -> dict[str, Place]:
    """Return the upper left corner of each device's box."""
    children = topology.children
    rows = max(len(children), 1)
    middle = (rows - 1) * (_HEIGHT + _ROW_GAP) / 2
    places, column = dict[str, Place](), 0
    for name in topology.main_path:
        places[name] = (column * (_BOX + _GAP), middle)
        column += 1
        if name == topology.root:
            for row, child in enumerate(children):
                places[child] = (column * (_BOX + _GAP), row * (_HEIGHT + _ROW_GAP))
            column += 1
    return places


def _draw_device(axes: Axes, place: Place, device: Device) -> None:
    own = device.measured
    colour = MEASURED_COLOUR if own else GREY
    axes.add_patch(Rectangle(place, _BOX, _HEIGHT, facecolor="#F7F7F7", edgecolor=colour, linewidth=1.6))
    role = f" ({plain(device.role, 8)})" if device.role not in ("", device.name) else ""
    cores = f"{own.cores} cores, {own.memory_bytes / 1e9:.3g} GB" if own else ""
    emulates = f"EMULATED: {plain(own.emulates, 18)}" if own and own.emulates else cores
    lines = (
        (0.2, f"{plain(device.name, 16)}{role}", 9.5, "bold"),
        (0.44, plain(own.gpu or own.processor or own.board, 30) if own else "", 7, "normal"),
        (0.66, emulates, 7.5, "normal"),
        (0.87, f"call {format_duration(device.call_s)}", 7.5, "normal"),
    )
    for y, text, size, weight in lines:
        axes.text(
            place[0] + _BOX / 2, place[1] + y, text, ha="center", va="center", fontsize=size, weight=weight,
            color=BLACK,
        )  # fmt: skip


def _draw_link(axes: Axes, source: Place, target: Place, link: Link) -> None:
    start = (source[0] + _BOX + 0.03, source[1] + _HEIGHT / 2)
    end = (target[0] - 0.03, target[1] + _HEIGHT / 2)
    colour = MEASURED_COLOUR if link.measured else GREY
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=13, color=colour, linewidth=1.5)
    )
    x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    background = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
    text = f"{link.capacity_bps / 1e6:.4g} Mbit/s\n{format_duration(link.delay_s)}"
    axes.text(x, y, text, ha="center", va="center", fontsize=7.5, color=BLACK, bbox=background)
