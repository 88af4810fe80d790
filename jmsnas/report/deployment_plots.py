"""What a deployment measured, as pictures: one request over the devices, and predicted beside measured."""

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from jmsnas.errors import InputError
from jmsnas.report.plot_style import BLACK, BLUE, GREY, ORANGE, SKY, milliseconds, new_figure, plain, title

TIMELINE, TERMS = "timeline.png", "predicted.png"
_COLOURS = {"compute": BLUE, "send": ORANGE, "wait": GREY}


def read_deployment(folder: Path) -> dict[str, Any] | None:
    """Read `deploy.json` of a run; None where it was not deployed. Raises InputError."""
    path = folder / "deploy.json"
    if not path.exists():
        return None
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
        if document["schema_version"] != 1 or not document["timeline"] or not document["terms"]:
            raise ValueError("of another schema")
        return document
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error}): run jmsnas deploy again") from error


def draw_timeline(document: dict[str, Any]) -> Figure:
    """Draw one request, that of median T: a row a device, from the image's arrival to the result."""
    legs = document["timeline"]
    devices = list(dict.fromkeys(leg["device"] for leg in legs))
    figure = new_figure(10, 1.6 + 0.55 * len(devices))
    axes = figure.subplots()
    for leg in legs:
        row = devices.index(leg["device"])
        for kind, begins, ends in (
            ("wait", leg["received_s"], leg["begun_s"]),
            ("compute", leg["begun_s"], leg["ended_s"]),
        ):
            length = 1e3 * max(0.0, ends - begins)
            axes.barh(row, length, left=1e3 * begins, height=0.55, color=_COLOURS[kind])
        if leg["source"]:
            # A transfer leaves one row and ends in another: a band between them.
            rows = [devices.index(leg["source"]) + 0.28, row + 0.28]
            leaves, arrives = 1e3 * leg["sent_s"], 1e3 * max(leg["sent_s"], leg["received_s"])
            axes.fill_betweenx(rows, [leaves] * 2, [leaves, arrives], color=_COLOURS["send"], alpha=0.6, lw=0)
    end_s = max(leg["ended_s"] for leg in legs)
    axes.axvline(1e3 * end_s, color=BLACK, lw=1, ls="--")
    axes.set_yticks(range(len(devices)), [plain(device) for device in devices])
    axes.set_ylim(len(devices) - 0.5, -0.5)
    axes.set_xlim(0, 1e3 * end_s * 1.02)
    axes.set_xlabel("ms since the image was at the first device")
    handles = [Patch(color=colour, label=kind) for kind, colour in _COLOURS.items()]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    title(axes, f"one request over the devices: T = {milliseconds(end_s)}{_held(document)}")
    return figure


def draw_terms(document: dict[str, Any]) -> Figure:
    """Draw each term of the equation: predicted above measured, with the 5th to 95th percentile."""
    terms = [term for term in document["terms"] if term["predicted_s"] is not None]
    figure = new_figure(10, 1.5 + 0.5 * len(terms))
    axes = figure.subplots()
    for row, term in enumerate(terms):
        axes.barh(row - 0.19, 1e3 * term["predicted_s"], height=0.36, color=SKY)
        measured, low, high = (1e3 * term[name] for name in ("measured_s", "low_s", "high_s"))
        colour = GREY if term["held"] else _COLOURS[term["kind"]]
        axes.barh(row + 0.19, measured, height=0.36, color=colour)
        axes.plot([low, high], [row + 0.19] * 2, color=BLACK, lw=1)
        words = "held" if term["held"] else f"x {term['ratio']:.2f}" if term["ratio"] else ""
        axes.text(max(measured, high, 1e3 * term["predicted_s"]), row, f"  {words}", va="center", fontsize=8)
    axes.set_yticks(range(len(terms)), [plain(f"{t['kind']} {t['where']}", 32) for t in terms])
    axes.set_ylim(len(terms) - 0.4, -0.6)
    axes.margins(x=0.12)
    axes.set_xlabel("ms")
    handles = [
        Patch(color=SKY, label="predicted"),
        Patch(color=BLUE, label="measured, compute"),
        Patch(color=ORANGE, label="measured, send"),
    ]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    title(axes, f"predicted beside measured, medians of requests{_held(document)}")
    return figure


def _held(document: dict[str, Any]) -> str:
    return " (held: emulated devices or links)" if document["latency"]["held"] else ""
