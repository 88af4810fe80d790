"""Plots of a deployment: the timeline of one request, and predicted against measured latency terms."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from jmsnas.deploy.leader.deadline import JudgedDeadline
from jmsnas.deploy.leader.measured_terms import HopTiming, MeasuredTerm
from jmsnas.errors import InputError
from jmsnas.files import read_json
from jmsnas.report.plot_style import BLACK, BLUE, GREY, ORANGE, SKY, milliseconds, new_figure, plain, title

TIMELINE_FILE, TERMS_FILE = "timeline.png", "predicted.png"
_COLOURS = {"compute": BLUE, "send": ORANGE, "wait": GREY}


@dataclass(frozen=True, slots=True)
class _Latency:
    held: bool


@dataclass(frozen=True, slots=True)
class DeploymentRecord:
    """Content of `deploy.json` for the report: timeline of the request of median T, every term, the deadline.

    `deadline` is None in files of versions that did not judge it.
    """

    schema_version: Literal[1]
    timeline: Annotated[tuple[HopTiming, ...], msgspec.Meta(min_length=1)]
    terms: Annotated[tuple[MeasuredTerm, ...], msgspec.Meta(min_length=1)]
    latency: _Latency
    deadline: JudgedDeadline | None = None

    @property
    def emulated(self) -> str:
        """Note of the titles where devices or links were emulated."""
        return " (emulated devices or links)" if self.latency.held else ""


def read_deployment(folder: Path) -> DeploymentRecord | None:
    """Read `deploy.json` of a run; None if it was not deployed. Raises InputError."""
    path = folder / "deploy.json"
    if not path.exists():
        return None
    return read_json(path, DeploymentRecord, InputError, "Run jmsnas deploy again")


def draw_timeline(record: DeploymentRecord) -> Figure:
    """Draw the request of median T from the image's arrival to the result, one row for each device."""
    hops = record.timeline
    devices = list(dict.fromkeys(hop.device for hop in hops))
    figure = new_figure(10, 1.6 + 0.55 * len(devices))
    axes = figure.subplots()
    for hop in hops:
        row = devices.index(hop.device)
        for kind, begin_s, finish_s in (
            ("wait", hop.received_s, hop.begun_s),
            ("compute", hop.begun_s, hop.ended_s),
        ):
            length = 1e3 * max(0.0, finish_s - begin_s)
            axes.barh(row, length, left=1e3 * begin_s, height=0.55, color=_COLOURS[kind])
        if hop.source:
            # A transfer is a band from the row of its source to the row of its target.
            rows = [devices.index(hop.source) + 0.28, row + 0.28]
            sent, received = 1e3 * hop.sent_s, 1e3 * max(hop.sent_s, hop.received_s)
            axes.fill_betweenx(rows, [sent] * 2, [sent, received], color=_COLOURS["send"], alpha=0.6, lw=0)
    end_s = max(hop.ended_s for hop in hops)
    axes.axvline(1e3 * end_s, color=BLACK, lw=1, ls="--")
    axes.set_yticks(range(len(devices)), [plain(device) for device in devices])
    axes.set_ylim(len(devices) - 0.5, -0.5)
    axes.set_xlim(0, 1e3 * end_s * 1.02)
    axes.set_xlabel("ms since the first device received the image")
    handles = [Patch(color=colour, label=kind) for kind, colour in _COLOURS.items()]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    title(axes, f"one request on the devices: T = {milliseconds(end_s)}{record.emulated}")
    return figure


def draw_terms(record: DeploymentRecord) -> Figure:
    """Draw the predicted and the measured seconds of each term, with the 5th to 95th percentile."""
    terms = [(term, 1e3 * term.predicted_s) for term in record.terms if term.predicted_s is not None]
    figure = new_figure(10, 1.5 + 0.5 * len(terms))
    axes = figure.subplots()
    for row, (term, predicted) in enumerate(terms):
        axes.barh(row - 0.19, predicted, height=0.36, color=SKY)
        measured, low, high = (1e3 * s for s in (term.measured_s, term.low_s, term.high_s))
        colour = GREY if term.held else _COLOURS[term.kind]
        axes.barh(row + 0.19, measured, height=0.36, color=colour)
        axes.plot([low, high], [row + 0.19] * 2, color=BLACK, lw=1)
        ratio = "emulated" if term.held else f"x {term.ratio:.2f}" if term.ratio else ""
        axes.text(max(measured, high, predicted), row, f"  {ratio}", va="center", fontsize=8)
    axes.set_yticks(range(len(terms)), [plain(f"{t.kind} {t.where}", 32) for t, _ in terms])
    axes.set_ylim(len(terms) - 0.4, -0.6)
    axes.margins(x=0.12)
    axes.set_xlabel("ms")
    handles = [
        Patch(color=SKY, label="predicted"),
        Patch(color=BLUE, label="measured, compute"),
        Patch(color=ORANGE, label="measured, send"),
    ]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    title(axes, f"predicted and measured latency terms, medians of requests{record.emulated}")
    return figure
