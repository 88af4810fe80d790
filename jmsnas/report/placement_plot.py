"""Plot the derived model on its devices: layers of each device, transfers, and their latency."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Patch, Rectangle

from jmsnas.nas.split.placement import LatencyTerm
from jmsnas.origin import origin_label
from jmsnas.report.device_data import DeviceData
from jmsnas.report.plot_style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    ORIGIN_HATCHES,
    PUBLISHED_COLOUR,
    PURPLE,
    SIMULATED_COLOUR,
    SKY,
    YELLOW,
    milliseconds,
    new_figure,
    plain,
)
from jmsnas.report.report_data import ReportData
from jmsnas.report.term_schedule import ScheduledTerm
from jmsnas.space import Candidate
from jmsnas.units import format_rate

_KERNEL_COLOURS = {1: GREY, 3: SKY, 5: ORANGE, 7: GREEN, 9: YELLOW, 11: PURPLE}
_FILLS = {"simulated": "#E8B48E", "published": "#D9B8D2"}
_OTHER_KERNEL, _FIXED = BLUE, "#D9D9D9"
# Inches: width of a box, gap for an arrow, height of a layer and of a box's head, gap between branches.
_BOX, _GAP, _ROW, _HEAD, _BRANCH_GAP = 2.0, 1.25, 0.27, 0.85, 0.2


def draw_placement(data: ReportData) -> Figure:
    """Draw a box for each device with a bar for each layer, and an arrow for each link.

    The children of a mesh are stacked vertically between their root and the device that joins them.
    """
    children = data.tree.children if data.tree else ()
    terms = {term.device: term for term in data.derived.terms}
    rows = {name: max(2, len(term.layers)) for name, term in terms.items()}
    heights = {name: _HEAD + _ROW * count + 0.15 for name, count in rows.items()}
    stacked = sum(heights[name] + _BRANCH_GAP for name in children) - _BRANCH_GAP
    height = max(stacked, *(heights[name] for name in heights if name not in children))
    columns = len(terms) - max(len(children) - 1, 0)
    width = columns * _BOX + (columns - 1) * _GAP + 0.2
    figure = new_figure(max(width, 6.0), height + 1.5)
    axes = figure.subplots()
    axes.set(xlim=(-0.1, width - 0.1), ylim=(height + 0.05, -0.05))
    axes.set_axis_off()
    boxes: dict[str, tuple[float, float, float]] = {}
    left, top = 0.0, 0.0
    for device in data.devices:
        name = device.device.name
        in_branch = name in children
        boxes[name] = (left, top, heights[name] if in_branch else height)
        _device(axes, boxes[name], device, terms[name], data)
        top = top + heights[name] + _BRANCH_GAP if in_branch and name != children[-1] else 0.0
        left += _BOX + _GAP if top == 0.0 else 0.0
    for term in data.derived.schedule:
        if term.link:
            box = term.target if term.target in children else term.device
            y = _arrow_height(boxes[box], box in children)
            _arrow(axes, boxes[term.device][0] + _BOX, y, term)
    figure.suptitle(_heading(data), fontsize=11, color=BLACK)
    names, handles = _legend(data)
    figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize=8)
    return figure


def _arrow_height(box: tuple[float, float, float], branch: bool) -> float:
    """Return the height of the arrow at a box: in the middle of a child's, near the top of the others."""
    _, top, height = box
    return top + height / 2 if branch else min(height / 2 + 0.3, 1.7)


def _heading(data: ReportData) -> str:
    t_s, t_const_s = data.derived.latency_s, data.run.target.t_const_s
    verdict = "within" if t_s <= t_const_s else "ABOVE"
    text = f"T = {milliseconds(t_s)}, {verdict} T_const = {milliseconds(t_const_s)}"
    marks = {"SIMULATED: hatched devices": data.simulated, "published: dotted ones": data.published}
    note = "; ".join(mark for mark, names in marks.items() if names)
    return f"{text}   ({note})" if note else text


def _device(
    axes: Axes, box: tuple[float, float, float], device: DeviceData, term: LatencyTerm, data: ReportData
) -> None:
    left, top, height = box
    colour = {"simulated": SIMULATED_COLOUR, "published": PUBLISHED_COLOUR}.get(device.origin, BLACK)
    background = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    axes.add_patch(Rectangle((left, top), _BOX, height, facecolor="#F7F7F7", edgecolor=colour, linewidth=1.4))
    if device.origin in _FILLS:
        hatch, shade = ORIGIN_HATCHES[device.origin], _FILLS[device.origin]
        axes.add_patch(
            Rectangle((left, top), _BOX, height, fill=False, edgecolor=shade, hatch=hatch, linewidth=0)
        )
    role = f" ({plain(device.device.role, 8)})" if device.device.role not in ("", device.device.name) else ""
    lines = (
        (0.17, f"{plain(device.device.name, 16)}{role}", BLACK, "bold"),
        (0.41, origin_label(device.origin), colour, "bold"),
        (0.65, _computation(term), BLACK, "normal"),
    )
    for y, text, shade, weight in lines:
        axes.text(
            left + _BOX / 2, top + y, text, ha="center", va="center", fontsize=9, color=shade, weight=weight,
            bbox=background,
        )  # fmt: skip
    if not term.layers:
        idle = "no branch" if data.tree and device.device.name in data.tree.children else "relay: no layers"
        where = (left + _BOX / 2, top + _HEAD + _ROW)
        axes.text(*where, idle, ha="center", va="center", fontsize=8, bbox=background)
    for row, n in enumerate(term.layers):
        _layer(axes, left, top + _HEAD + row * _ROW, n, data.derived.candidates[n - 1])


def _computation(term: LatencyTerm) -> str:
    """Format tau, and the call where it costs anything."""
    tau = f"tau = {milliseconds(term.tau_s)}"
    return f"{tau} + {milliseconds(term.call_s)} call" if term.call_s else tau


def _layer(axes: Axes, left: float, top: float, number: int, candidate: Candidate) -> None:
    """Draw one layer: colour by kernel size, width by expansion, Identity hollow with a dashed edge."""
    full = _BOX - 0.2
    share = min(1.0, 0.5 + candidate.expansion / 12) if candidate.op == "mb" else 0.5
    hollow = candidate.op == "identity"
    axes.add_patch(
        Rectangle(
            (left + 0.1 + full * (1 - share) / 2, top),
            full * share,
            _ROW - 0.05,
            facecolor="white" if hollow else _colour(candidate),
            edgecolor=BLACK,
            linestyle="--" if hollow else "-",
            linewidth=0.7,
        )
    )
    shortcut = " +skip" if candidate.shortcut else ""
    name = f"k{candidate.kernel_size} e{candidate.expansion}" if candidate.op == "mb" else candidate.op
    middle = (left + _BOX / 2, top + (_ROW - 0.05) / 2)
    axes.text(*middle, f"{number}  {name}{shortcut}", ha="center", va="center", fontsize=7.5, color=BLACK)


def _colour(candidate: Candidate) -> str:
    return _KERNEL_COLOURS.get(candidate.kernel_size, _OTHER_KERNEL) if candidate.op == "mb" else _FIXED


def _arrow(axes: Axes, left: float, y: float, term: ScheduledTerm) -> None:
    ends = ((left + 0.03, y), (left + _GAP - 0.03, y))
    axes.add_patch(FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=14, color=BLACK, linewidth=1.6))
    rate = format_rate(term.link.capacity_bps) if term.link else ""
    above = f"{term.sent_bytes:,.0f} bytes\n{rate}"
    axes.text(left + _GAP / 2, y - 0.1, above, ha="center", va="bottom", fontsize=8)
    below = f"eps =\n{milliseconds(term.seconds)}"
    axes.text(left + _GAP / 2, y + 0.1, below, ha="center", va="top", fontsize=8)


def _legend(data: ReportData) -> tuple[list[str], list[Patch]]:
    patches: dict[str, Patch] = {}
    for candidate in sorted(data.derived.candidates):
        colour = _colour(candidate)
        if candidate.op == "mb":
            name = f"{candidate.kernel_size}x{candidate.kernel_size} kernel"
            patches[name] = Patch(facecolor=colour, edgecolor=BLACK)
        elif candidate.op == "identity":
            patches["Identity (no operation)"] = Patch(facecolor="white", edgecolor=BLACK, linestyle="--")
        else:
            patches["stem, head"] = Patch(facecolor=colour, edgecolor=BLACK)
    patches["wider: larger expansion"] = Patch(facecolor="white", edgecolor="white")
    for origin, shade in _FILLS.items():
        if any(device.origin == origin for device in data.devices):
            patches[f"{origin_label(origin)} device"] = Patch(
                facecolor="white", edgecolor=shade, hatch=ORIGIN_HATCHES[origin]
            )
    return list(patches), list(patches.values())
