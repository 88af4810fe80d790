"""`jmsnas fit-estimator`: U(.) of every profiled device, with an evaluation and a card."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jmsnas.cli import app
from jmsnas.cli.terminal import (
    DEFAULT_WORKSPACE,
    JsonOption,
    SeedOption,
    WorkspaceOption,
    one_line_errors,
    print_json,
    progress_bar,
    warn_simulated,
    workspace,
)

if TYPE_CHECKING:
    from jmsnas.estimators.evaluate import Scores
    from jmsnas.estimators.store import Estimator

_EXAMPLES = """Fit a latency estimator U(.) to every profiled device and run time, and judge it.

Each is judged on layer geometries it never saw, beside two simpler predictors, and kept in
estimators/DEVICE/KEY of the workspace with a card (card.md) that says what it is good for.

[bold]Examples[/bold]

  jmsnas fit-estimator                              every table of the workspace

  jmsnas fit-estimator --device local               one device

  jmsnas fit-estimator --table far/jetson.parquet   a table from elsewhere

Before: jmsnas profile. Next: jmsnas search --topology chain
"""


@app.command("fit-estimator", help=_EXAMPLES)
@one_line_errors
def fit_estimator_command(
    device: Annotated[
        list[str] | None, typer.Option("--device", help="Device with a table here; may be repeated.")
    ] = None,
    table: Annotated[
        list[Path] | None, typer.Option("--table", help="A latency table (.parquet); may be repeated.")
    ] = None,
    seed: SeedOption = 0,
    folder: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Parse, fit, print."""
    from jmsnas.estimators.store import fit_estimators

    with progress_bar() as progress:
        found = fit_estimators(workspace(folder), device or (), table or (), seed, progress)
    warn_simulated(list(dict.fromkeys(estimator.device for _, estimator in found if estimator.simulated)))
    if as_json:
        print_json({"estimators": [_document(place, estimator) for place, estimator in found]})
        return
    for place, estimator in found:
        _print(place, estimator)
    print("\nNext: jmsnas search --topology chain")


def _document(place: Path, estimator: "Estimator") -> dict[str, Any]:
    from dataclasses import asdict

    evaluation = asdict(estimator.evaluation)
    del evaluation["pairs"]
    return {
        "device": estimator.device,
        "key": estimator.key.label,
        "kind": "simulated" if estimator.simulated else "measured",
        "model": estimator.regressor.name,
        "evaluation": evaluation,
        "folder": str(place),
    }


def _print(place: Path, estimator: "Estimator") -> None:
    found = estimator.evaluation
    kind = "SIMULATED" if estimator.simulated else "measured"
    name, rows = f"{estimator.device}  {estimator.key.label}", f"{found.rows} rows of {found.geometries}"
    print(f"{name}  {rows} geometries, {kind}")
    print("  on geometries it never saw    MAPE  within 10 %  Spearman")
    for title, scores in (
        (f"U(.): {estimator.regressor.name}", found.model),
        ("roofline alone", found.roofline),
        ("line over MACs", found.flops),
    ):
        print(f"    {title:<25}{_scores(scores)}")
    print(f"  90 % interval held {found.coverage:.0%} of them; card: {place / 'card.md'}")


def _scores(scores: "Scores") -> str:
    rank = "-" if scores.spearman is None else f"{scores.spearman:.3f}"
    return f"{scores.mape:>7.1%}{scores.within_10:>12.0%}{rank:>11}"
