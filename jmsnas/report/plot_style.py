"""What all pictures of a report share: colours that colour-blind people can tell apart, text that is safe.

Colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/). Figures are made through
matplotlib's objects, never through pyplot, so drawing leaves nothing behind.
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
# What a device's share is filled with where nobody measured it here.
ORIGIN_HATCHES = {"simulated": "///", "published": "..."}
DEVICE_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW)
LINK_COLOURS = ("#6E6E6E", "#A0A0A0", "#CACACA", "#868686")

_DPI = 120
# DejaVu Sans, which comes with matplotlib, has letters up to here (Latin, Greek, Cyrillic).
_LAST_LETTER = 0x52F


def plain(text: str, longest: int = 24) -> str:
    """Make a name safe to draw: no mathematics between dollars, no letter without a shape, not too long."""
    shown = "".join(c if c.isprintable() and ord(c) <= _LAST_LETTER else "?" for c in text)
    shown = shown if len(shown) <= longest else shown[: longest - 3] + "..."
    return shown.replace("$", r"\$")


def milliseconds(seconds: float) -> str:
    """Print seconds as pictures and the page do: milliseconds, four digits."""
    return f"{seconds * 1e3:#.4g}".rstrip(".") + " ms"


def new_figure(width: float, height: float) -> Figure:
    """Give an empty figure of so many inches, white whatever the page's scheme."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def title(axes: Axes, text: str, simulated: bool = False, published: bool = False) -> None:
    """Write a title; what is simulated, or published by others, says so in its first words and its colour."""
    marks = [origin_label(name) for name, so in (("simulated", simulated), ("published", published)) if so]
    colour = SIMULATED_COLOUR if simulated else PUBLISHED_COLOUR if published else BLACK
    shown = " ".join(filter(None, (", ".join(marks), text)))
    axes.set_title(shown, fontsize=10, loc="left", color=colour)


def plain_ticks(axis: Axis) -> None:
    """Mark a logarithmic axis at 1, 2, 3, 5, 10, ... and write these as people do."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def percent(share: float) -> str:
    """Print a share of one: `1.4 %`."""
    return f"{100 * share:.1f} %"


def png(figure: Figure) -> bytes:
    """Draw a figure as a PNG file; the same figure gives the same bytes."""
    drawn, file = BytesIO(), BytesIO()
    with rc_context({"font.family": "DejaVu Sans", "hatch.linewidth": 0.7}):
        figure.savefig(drawn, format="png", dpi=_DPI)
    with Image.open(drawn) as picture:
        # A palette makes a drawing three times as small, so that a page with all of them can be mailed.
        few = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=2)
        few.save(file, "png", optimize=True)
    return file.getvalue()
