"""One page about a finished search, and its pictures: `report.html` and PNG files in the run's folder.

The page is one file that needs nothing else: pictures as base64, the numbers as JSON inside it, no script.
"""

import base64
import platform
from dataclasses import asdict, dataclass
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from jmsnas.files import write_atomic
from jmsnas.origin import origin_label
from jmsnas.progress import Progress, no_progress
from jmsnas.report import text as words
from jmsnas.report.deployment_plots import TERMS, TIMELINE, draw_terms, draw_timeline, read_deployment
from jmsnas.report.placement_plot import draw_placement
from jmsnas.report.plot_style import milliseconds, percent, png
from jmsnas.report.report_data import ReportData, read_report_data
from jmsnas.report.run_plots import draw_estimators, draw_plan_comparison, draw_search
from jmsnas.report.split_map_plot import SplitMapPanel, compute_split_maps, draw_split_maps
from jmsnas.units import format_rate
from jmsnas.workspace import Workspace

SCHEMA_VERSION = 1
PAGE = "report.html"
_LIBRARIES = ("jmsnas", "torch", "numpy", "scikit-learn", "matplotlib")


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of the page: its file name, and its PNG bytes."""

    file: str
    content: bytes

    @property
    def base64(self) -> str:
        """The PNG as the page holds it."""
        return base64.b64encode(self.content).decode()


def write_report(workspace: Workspace, run: Path, progress: Progress = no_progress) -> Path:
    """Write `report.html` and its pictures (`search.png`, `network.png`, ...) into the folder of a run.

    Parameters
    ----------
    place
        The workspace whose estimators are shown; one that is not there is said to be missing, on the page.
    run
        Folder of a finished run.

    Returns
    -------
    The page: one file, under 1 MB.

    Raises
    ------
    InputError
        When the folder holds no finished run, or a file of it is damaged.
    StorageError
        When a file cannot be written.
    """
    progress(0, 3, "reading the run")
    facts = read_report_data(workspace, run)
    progress(1, 3, "computing where a split pays")
    panels = compute_split_maps()
    progress(2, 3, "drawing")
    pictures = draw_pictures(facts, panels, read_deployment(run))
    for picture in pictures:
        write_atomic(run / picture.file, picture.content)
    write_atomic(run / PAGE, page(facts, panels, pictures).encode())
    progress(3, 3, "page and pictures are written")
    return run / PAGE


def draw_pictures(
    facts: ReportData, panels: tuple[SplitMapPanel, ...], deployment: dict[str, Any] | None = None
) -> tuple[Picture, ...]:
    """Draw the pictures of a run in the order of the page, whose template has their headings and captions.

    `deployment` is what `jmsnas deploy` measured, where it has.
    """
    figures = {
        "network.png": draw_placement(facts),
        "compare.png": draw_plan_comparison(facts),
        "search.png": draw_search(facts),
        "estimators.png": draw_estimators(facts),
        "where_split_pays.png": draw_split_maps(panels),
    }
    if deployment is not None:
        figures = {TERMS: draw_terms(deployment), TIMELINE: draw_timeline(deployment), **figures}
    return tuple(Picture(file, png(figure)) for file, figure in figures.items())


def page(facts: ReportData, panels: tuple[SplitMapPanel, ...], pictures: tuple[Picture, ...]) -> str:
    """Fill the page's template; all that was read is escaped."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(ms=milliseconds, percent=percent, rate=format_rate, mark=origin_label)
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}
    template = resources.files("jmsnas.report").joinpath("page.html.jinja").read_text("utf-8")
    return environment.from_string(template).render(
        facts=facts,
        config=asdict(facts.config),
        words=words,
        panels=panels,
        pictures=pictures,
        stale=_stale(facts),
        versions={"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
        numbers=numbers(facts, panels),
    )


def numbers(facts: ReportData, panels: tuple[SplitMapPanel, ...]) -> dict[str, Any]:
    """Give all numbers of the page as one JSON document; seconds, bytes, bits per second."""
    known = [(facts_of.device.name, facts_of.evaluation) for facts_of in facts.devices]
    maps = [
        {
            "input": found.input_encoding,
            "policy": found.policy,
            "devices": list(panel.devices),
            "simulated": True,
            "sizes": list(found.sizes),
            "rates_bps": list(found.rates_bps),
            "cloud_s": found.cloud_SK.tolist(),
            "best_s": found.best_SK.tolist(),
            "best_cuts": found.cuts_SKM.tolist(),
        }
        for panel in panels
        for found in (panel.relay, panel.strict)
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "result": facts.run.document,
        "config": asdict(facts.config),
        "log": [asdict(epoch) for epoch in facts.epochs],
        "estimators": {name: asdict(evaluation) for name, evaluation in known if evaluation},
        "where_split_pays": maps,
    }


def _stale(facts: ReportData) -> str:
    """Say whether the layers' seconds no longer add up to the run's terms; empty where they do."""
    for term in facts.derived.terms:
        seconds = [layer.tau_s for layer in facts.layers if layer.device == term.device]
        if None in seconds:
            return "U(.) or the space of this run is not in the workspace any more: some cells are empty."
        if abs(sum(s for s in seconds if s is not None) - term.tau_s) > 1e-6 * term.tau_s:
            return f"U(.) of {term.device} has changed since the run: the layers no longer add up to its tau."
    return ""
