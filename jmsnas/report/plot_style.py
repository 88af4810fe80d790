"""Shared style of plots: a colour-blind safe palette, safe text, number formats, PNG output.

Colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/). Figures are made through
matplotlib's objects, not pyplot, so they need no cleanup.
"""

from io import BytesIO

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from PIL import Image

from jmsnas.origin import origin_label

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, YELLOW, GREY, BLACK = "#56B4E9", "#CC79A7", "#F0E442", "#9A9A9A", "#222222"
MEASURED_COLOUR, SIMULATED_COLOUR, PUBLISHED_COLOUR = BLUE, RED, "#A05195"
# By origin (`jmsnas.origin`).
ORIGIN_COLOURS = {
    "measured": MEASURED_COLOUR,
    "imported": MEASURED_COLOUR,
    "published": PUBLISHED_COLOUR,
    "simulated": SIMULATED_COLOUR,
}
# Hatches of terms on devices that were not measured here.
ORIGIN_HATCHES = {"simulated": "///", "published": "..."}
DEVICE_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW)
LINK_COLOURS = ("#6E6E6E", "#A0A0A0", "#CACACA", "#868686")

_DPI = 120
# Last code point that DejaVu Sans, matplotlib's font, draws (Latin, Greek, Cyrillic).
_LAST_LETTER = 0x52F


def end_at_100_percent(axes: Axes) -> None:
    """End the y axis of a share in percent at 0 and 100."""
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0.0), min(high, 100.0))


def plain(text: str, longest: int = 24) -> str:
    """Make text safe to draw: escape `$` math, replace characters without a glyph, shorten to `longest`."""
    shown = "".join(c if c.isprintable() and ord(c) <= _LAST_LETTER else "?" for c in text)
    shown = shown if len(shown) <= longest else shown[: longest - 3] + "..."
    return shown.replace("$", r"\$")


def milliseconds(seconds: float) -> str:
    """Format seconds as milliseconds with four significant digits."""
    return f"{seconds * 1e3:#.4g}".rstrip(".") + " ms"


def new_figure(width: float, height: float) -> Figure:
    """Create an empty figure of a size in inches, with a white background."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def title(axes: Axes, text: str, simulated: bool = False, published: bool = False) -> None:
    """Set a title; simulated or published latencies are marked at its start and by its colour."""
    marks = [origin_label(name) for name, so in (("simulated", simulated), ("published", published)) if so]
    colour = SIMULATED_COLOUR if simulated else PUBLISHED_COLOUR if published else BLACK
    shown = " ".join(filter(None, (", ".join(marks), text)))
    axes.set_title(shown, fontsize=10, loc="left", color=colour)


def plain_ticks(axis: Axis) -> None:
    """Set ticks of a logarithmic axis at 1, 2, 3, 5, 10, ..., labelled without exponents."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def percent(fraction: float) -> str:
    """Format a fraction as percent: `1.4 %`."""
    return f"{100 * fraction:.1f} %"


def svg(figure: Figure) -> bytes:
    """Render a figure as SVG; the same figure gives the same bytes."""
    file = BytesIO()
    with rc_context({"font.family": "DejaVu Sans", "svg.hashsalt": "jmsnas"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def png(figure: Figure) -> bytes:
    """Render a figure as PNG; the same figure gives the same bytes."""
    drawn, file = BytesIO(), BytesIO()
    with rc_context({"font.family": "DejaVu Sans", "hatch.linewidth": 0.7}):
        figure.savefig(drawn, format="png", dpi=_DPI)
    with Image.open(drawn) as image:
        # A palette of 256 colours makes the file three times as small.
        reduced = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=2)
        reduced.save(file, "png", optimize=True)
    return file.getvalue()
