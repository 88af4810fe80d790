"""`jmsnas fit-estimator`: fit and evaluate latency estimators U(.), with a model card and plots."""

from pathlib import Path
from typing import Annotated

import typer

from jmsnas.cli import app
from jmsnas.cli.options import DEFAULT_WORKSPACE, JsonOption, SeedOption, WorkspaceOption
from jmsnas.cli.terminal import one_line_errors, print_json, print_line, progress_bar, warn, warn_simulated
from jmsnas.workspace import Workspace

_HELP = """Fit a latency estimator U(.) for every profiled device and runtime, and evaluate it.

Each is evaluated on blocks held out in several ways, compared with simpler predictors, and saved in
estimators/DEVICE/KEY of the workspace with a model card (card.md) and plots.

[bold]Examples[/bold]

  jmsnas fit-estimator                              every table of the workspace

  jmsnas fit-estimator --device local               one device

  jmsnas fit-estimator --table far/jetson.parquet   a table of another workspace, or a published one

Before: jmsnas profile, or a table of your own (docs/own_tables.md). Next: jmsnas search --topology chain
"""


@app.command("fit-estimator", help=_HELP)
@one_line_errors
def fit_estimator_command(
    device: Annotated[
        list[str] | None, typer.Option(help="Device with a latency table; may be repeated.")
    ] = None,
    table: Annotated[
        list[Path] | None,
        typer.Option(help="A latency table (.parquet), of JMSNAS or published; may be repeated."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Fit to a published table that fails the quality gate.")
    ] = False,
    seed: SeedOption = 0,
    folder: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Parse, fit, draw, print."""
    from jmsnas.cli.output.fit_estimator import draw_evaluation, fitted_document, print_fitted
    from jmsnas.estimators.fit_tables import fit_tables

    workspace = Workspace(folder)
    with progress_bar() as progress:
        fitted = fit_tables(workspace, device or (), table or (), seed, force, progress, warn)
    warn_simulated(list(dict.fromkeys(each.estimator.device for each in fitted if each.estimator.simulated)))
    for each in fitted:
        draw_evaluation(each)
    if as_json:
        print_json({"estimators": [fitted_document(each) for each in fitted]})
        return
    for each in fitted:
        print_fitted(each)
    print_line("", "Next: jmsnas predict --help, or jmsnas search --topology chain")
