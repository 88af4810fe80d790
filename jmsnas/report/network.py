"""The derived network drawn over its devices: who runs which layer, what is sent, what it costs."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Patch, Rectangle

from jmsnas.nas.placement import Term
from jmsnas.report.drawing import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SIMULATED_COLOUR,
    SKY,
    YELLOW,
    milliseconds,
    new_figure,
    plain,
)
from jmsnas.report.facts import DeviceFacts, Facts
from jmsnas.space import Candidate
from jmsnas.units import format_rate

_KERNEL_COLOURS = {1: GREY, 3: SKY, 5: ORANGE, 7: GREEN, 9: YELLOW, 11: PURPLE}
_OTHER_KERNEL, _FIXED = BLUE, "#D9D9D9"
# Inches: a device's box, the gap for an arrow, a layer's row, the box's head.
_BOX, _GAP, _ROW, _HEAD = 2.0, 1.25, 0.27, 0.85


def draw_network(facts: Facts) -> Figure:
    """Draw a box a device from UE to cloud, a bar a layer in it, an arrow a link with bytes and epsilon."""
    rows = max(2, *(len(term.layers) for term in facts.derived.terms))
    count = len(facts.devices)
    width = count * _BOX + (count - 1) * _GAP + 0.2
    height = _HEAD + rows * _ROW + 0.15
    figure = new_figure(max(width, 6.0), height + 1.5)
    axes = figure.subplots()
    axes.set(xlim=(-0.1, width - 0.1), ylim=(height + 0.05, -0.05))
    axes.set_axis_off()
    for m, (device, term) in enumerate(zip(facts.devices, facts.derived.terms, strict=True)):
        left = m * (_BOX + _GAP)
        _device(axes, left, height, device, term)
        for row, n in enumerate(term.layers):
            _layer(axes, left, _HEAD + row * _ROW, n, facts.derived.candidates[n - 1])
        if m < len(facts.links):
            _arrow(axes, left + _BOX, min(height / 2 + 0.3, 1.7), facts, m)
    figure.suptitle(_heading(facts), fontsize=11, color=BLACK)
    names, handles = _legend(facts)
    figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize=8)
    return figure


def _heading(facts: Facts) -> str:
    t_s, t_const_s = facts.derived.latency_s, facts.target.t_const_s
    verdict = "within" if t_s <= t_const_s else "ABOVE"
    text = f"T = {milliseconds(t_s)}, {verdict} T_const = {milliseconds(t_const_s)}"
    return f"{text}   (SIMULATED: hatched devices)" if facts.simulated else text


def _device(axes: Axes, left: float, height: float, facts: DeviceFacts, term: Term) -> None:
    colour = SIMULATED_COLOUR if facts.simulated else BLACK
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    axes.add_patch(Rectangle((left, 0), _BOX, height, facecolor="#F7F7F7", edgecolor=colour, linewidth=1.4))
    if facts.simulated:
        axes.add_patch(
            Rectangle((left, 0), _BOX, height, fill=False, edgecolor="#E8B48E", hatch="///", linewidth=0)
        )
    role = f" ({plain(facts.device.role, 8)})" if facts.device.role not in ("", facts.device.name) else ""
    lines = (
        (0.17, f"{plain(facts.device.name, 16)}{role}", BLACK, "bold"),
        (0.41, "SIMULATED" if facts.simulated else "measured", colour, "bold"),
        (0.65, f"tau = {milliseconds(term.tau_s)}", BLACK, "normal"),
    )
    for y, text, shade, weight in lines:
        axes.text(
            left + _BOX / 2,
            y,
            text,
            ha="center",
            va="center",
            fontsize=9,
            color=shade,
            weight=weight,
            bbox=box,
        )
    if not term.layers:
        axes.text(
            left + _BOX / 2, _HEAD + _ROW, "relay: passes on", ha="center", va="center", fontsize=8, bbox=box
        )


def _layer(axes: Axes, left: float, top: float, number: int, candidate: Candidate) -> None:
    """Draw one layer: colour by kernel size, width by expansion, Identity hollow, a shortcut underlined."""
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


def _arrow(axes: Axes, left: float, y: float, facts: Facts, m: int) -> None:
    link, term = facts.links[m], facts.derived.terms[m]
    ends = ((left + 0.03, y), (left + _GAP - 0.03, y))
    axes.add_patch(FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=14, color=BLACK, linewidth=1.6))
    above = f"{term.sent_bytes:,.0f} bytes\n{format_rate(link.capacity_bps)}"
    axes.text(left + _GAP / 2, y - 0.1, above, ha="center", va="bottom", fontsize=8)
    below = f"eps =\n{milliseconds(term.epsilon_s)}"
    axes.text(left + _GAP / 2, y + 0.1, below, ha="center", va="top", fontsize=8)


def _legend(facts: Facts) -> tuple[list[str], list[Patch]]:
    found: dict[str, Patch] = {}
    for candidate in sorted(facts.derived.candidates):
        colour = _colour(candidate)
        if candidate.op == "mb":
            name = f"{candidate.kernel_size}x{candidate.kernel_size} kernel"
            found[name] = Patch(facecolor=colour, edgecolor=BLACK)
        elif candidate.op == "identity":
            found["Identity (no operation)"] = Patch(facecolor="white", edgecolor=BLACK, linestyle="--")
        else:
            found["stem, head"] = Patch(facecolor=colour, edgecolor=BLACK)
    found["wider: larger expansion"] = Patch(facecolor="white", edgecolor="white")
    if facts.simulated:
        found["SIMULATED device"] = Patch(facecolor="white", edgecolor="#E8B48E", hatch="///")
    return list(found), list(found.values())
