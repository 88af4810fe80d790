"""Write the report of a finished search: `report.html` and PNG plots in the run's folder.

The page is self-contained: plots as base64, all numbers as JSON, no scripts.
"""

import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jmsnas.deploy.leader.deadline import JudgedDeadline
from jmsnas.files import write_atomic
from jmsnas.progress import Progress, no_progress
from jmsnas.report import text
from jmsnas.report.deployment_plots import (
    TERMS_FILE,
    TIMELINE_FILE,
    DeploymentRecord,
    draw_terms,
    draw_timeline,
    read_deployment,
)
from jmsnas.report.html_template import load_template
from jmsnas.report.placement_plot import draw_placement
from jmsnas.report.plot_style import png
from jmsnas.report.report_data import ReportData, read_report_data
from jmsnas.report.run_plots import draw_estimators, draw_plan_comparison, draw_search
from jmsnas.report.split_map_plot import SplitMapPanel, compute_split_maps, draw_split_maps
from jmsnas.workspace import Workspace

SCHEMA_VERSION = 1
PAGE_FILE = "report.html"
_LIBRARIES = ("jmsnas", "torch", "numpy", "scikit-learn", "matplotlib")


def write_report(workspace: Workspace, run: Path, progress: Progress = no_progress) -> Path:
    """Write `report.html` and its plots (`search.png`, `network.png`, ...) into the folder of a finished run.

    Current estimators of the workspace are shown; the page notes missing ones. Returns the path of the page,
    one file of at most 1 MB.

    Raises
    ------
    InputError
        When the folder holds no finished run, or a file of it is damaged.
    StorageError
        When a file cannot be written.
    """
    progress(0, 3, "reading the run")
    data = read_report_data(workspace, run)
    progress(1, 3, "computing the split maps")
    panels = compute_split_maps()
    progress(2, 3, "drawing")
    deployment = read_deployment(run)
    plots = draw_plots(data, panels, deployment)
    for file, content in plots.items():
        write_atomic(run / file, content)
    deadline = deployment.deadline if deployment else None
    write_atomic(run / PAGE_FILE, page(data, panels, plots, deadline).encode())
    progress(3, 3, "page and plots are written")
    return run / PAGE_FILE


def draw_plots(
    data: ReportData, panels: tuple[SplitMapPanel, ...], deployment: DeploymentRecord | None = None
) -> dict[str, bytes]:
    """Draw the plots as PNG by file name, in the order of the page; the template has headings and captions.

    `deployment` is the content of `deploy.json`, None if the run was not deployed.
    """
    figures = {
        "network.png": draw_placement(data),
        "compare.png": draw_plan_comparison(data),
        "search.png": draw_search(data),
        "estimators.png": draw_estimators(data),
        "where_split_pays.png": draw_split_maps(panels),
    }
    if deployment is not None:
        figures = {TERMS_FILE: draw_terms(deployment), TIMELINE_FILE: draw_timeline(deployment), **figures}
    return {file: png(figure) for file, figure in figures.items()}


def page(
    data: ReportData,
    panels: tuple[SplitMapPanel, ...],
    plots: dict[str, bytes],
    deadline: JudgedDeadline | None = None,
) -> str:
    """Render the page's template; all values are HTML-escaped. `deadline` is that of a deployment, if any."""
    return load_template("run_page.html.jinja").render(
        data=data,
        config=asdict(data.config),
        text=text,
        panels=panels,
        plots=plots,
        deadline=deadline,
        stale=_stale(data),
        versions={"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
        numbers=numbers(data, panels, deadline),
    )


def numbers(
    data: ReportData, panels: tuple[SplitMapPanel, ...], deadline: JudgedDeadline | None
) -> dict[str, Any]:
    """Collect all numbers of the page in one JSON document; seconds, bytes, bits per second."""
    evaluated = [device for device in data.devices if device.evaluation and not device.simulated]
    maps = [
        {
            "input": split_map.input_encoding,
            "policy": split_map.policy,
            "devices": list(panel.devices),
            "simulated": True,
            "sizes": list(split_map.sizes),
            "rates_bps": list(split_map.rates_bps),
            "cloud_s": split_map.cloud_SK.tolist(),
            "best_s": split_map.best_SK.tolist(),
            "best_cuts": split_map.cuts_SKM.tolist(),
        }
        for panel in panels
        for split_map in (panel.relay, panel.strict)
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "deadline": asdict(deadline) if deadline else None,
        "result": data.run.document,
        "config": asdict(data.config),
        "log": [asdict(epoch) for epoch in data.epochs],
        "estimators": {
            device.device.name: asdict(device.evaluation) for device in evaluated if device.evaluation
        },
        "where_split_pays": maps,
    }


def _stale(data: ReportData) -> str:
    """Return a note if the layers' current seconds do not add up to the run's terms; empty if they do."""
    for term in data.derived.terms:
        seconds = [layer.tau_s for layer in data.layers if layer.device == term.device]
        if None in seconds:
            return "U(.) or the space of this run is no longer in the workspace: some cells are empty."
        if abs(sum(s for s in seconds if s is not None) - term.tau_s) > 1e-6 * term.tau_s:
            return f"U(.) of {term.device} has changed since the run: the layers no longer add up to its tau."
    return ""
