"""The model card of an estimator: what it speaks for, how good it is, what it is not good for.

After Mitchell et al., Model Cards for Model Reporting, FAT* 2019 (arXiv 1810.03993).
"""

from statistics import median

from jmsnas.estimators.evaluate import Evaluation, Scores
from jmsnas.estimators.recipe import Recipe
from jmsnas.profiler.table import LatencyTable


def model_card(table: LatencyTable, recipe: Recipe, evaluation: Evaluation, margin: float) -> str:
    """Write the card in Markdown.

    Parameters
    ----------
    table
        The rows of one key that the estimator was fitted to.
    margin
        Share by which the 90 % interval reaches above a prediction.
    """
    key = recipe.key
    parts = [
        f"# Latency estimator U(.) of `{table.device}`, {key.label}",
        _origin(table, recipe),
        f"It answers with the seconds of one call of a block under {key.runtime}, {key.threads} thread(s), "
        f"batch {key.batch}, {key.dtype}. A row of its table answers as it stands there; other blocks are "
        "predicted.",
        _errors(evaluation, margin),
        _model(recipe),
        _limits(table),
        f"## To fit it again\n\n```\njmsnas profile --device {table.device}\n"
        f"jmsnas fit-estimator --device {table.device} --seed {recipe.seed}\n```\n\n"
        f"`table.parquet` and `recipe.json` beside this card are what it is loaded from; rows' SHA-256 "
        f"`{recipe.table_sha256}`. First fitted with "
        + ", ".join(f"{name} {text}" for name, text in recipe.versions.items())
        + ".",
    ]
    return "\n\n".join(parts) + "\n"


def _origin(table: LatencyTable, recipe: Recipe) -> str:
    rows, simulated = table.rows, [row for row in table.rows if row.kind == "simulated"]
    dates = sorted({row.measured_at[:10] for row in rows})
    facts = [f"- {len(rows)} rows, {dates[0]} to {dates[-1]}"]
    facts += [f"- from: {source}" for source in sorted({row.source for row in rows})]
    for name in sorted({row.environment for row in rows}):
        known = ", ".join(f"{what} {text}" for what, text in table.environments.get(name, {}).items())
        facts.append(f"- environment {name}: {known or 'not recorded'}")
    measured = [row for row in rows if row.kind != "simulated"]
    if measured:
        steady = sum(row.converged for row in measured) / len(measured)
        facts.append(
            f"- measured: median of {median(row.rounds for row in measured):g} rounds a row, each sample "
            f"beside a reference block; {steady:.0%} of rows reached the interval asked for, median "
            f"half width {median(row.half_width for row in measured):.2%}"
        )
    head = "MEASURED on the device."
    if recipe.simulated:
        head = (
            f"**SIMULATED: {len(simulated)} of {len(rows)} rows are not measurements of this device** but a "
            "roofline of published figures. The errors below say how well the estimator follows that "
            "roofline, NOT how well it follows the device."
        )
    return "\n".join([head, "", *facts])


def _errors(evaluation: Evaluation, margin: float) -> str:
    lines = [
        "## Errors on layer geometries it never saw",
        "",
        f"{evaluation.rows} rows of {evaluation.geometries} geometries, whole geometries held out "
        f"{evaluation.folds} ways; the model was chosen anew in each fold.",
        "",
        "| predictor | MAPE | RMSPE | within 5 % | within 10 % | Spearman |",
        "| --- | --- | --- | --- | --- | --- |",
        _line("this estimator", evaluation.model),
        _line("roofline alone", evaluation.roofline),
        _line("line over MACs", evaluation.flops),
        "",
        f"90 % interval: up to {margin:.1%} above a prediction and {margin / (1 + margin):.1%} below; it "
        f"held {evaluation.coverage:.0%} of those rows. Few geometries make all of these figures coarse.",
    ]
    return "\n".join(lines)


def _line(name: str, found: Scores) -> str:
    rank = "-" if found.spearman is None else f"{found.spearman:.3f}"
    shares = (found.mape, found.rmspe, found.within_5, found.within_10)
    return f"| {name} | " + " | ".join(f"{share:.1%}" for share in shares) + f" | {rank} |"


def _model(recipe: Recipe) -> str:
    choice = recipe.choice
    tried = "was not tried (few rows, or nothing left to explain)"
    if choice.mape_residual is not None:
        tried = (
            f"had MAPE {choice.mape_residual:.1%} there and was {'kept' if choice.residual else 'left out'}"
        )
    rates = "\n".join(f"| {name} | {rate:.3g} |" for name, rate in recipe.rates.items() if rate > 0)
    return (
        "## Model\n\nA non-negative sum of work times rates, fitted to relative errors. Alone it had MAPE "
        f"{choice.mape_roofline:.1%} in cross-validation over geometries; a Gaussian process on the "
        f"logarithm of what it leaves {tried}.\n\n| work | seconds per unit |\n| --- | --- |\n{rates}"
        + (f"\n\nKernel (inputs standardised): `{recipe.kernel}`" if recipe.kernel else "")
    )


def _limits(table: LatencyTable) -> str:
    layers = [row.block.layer for row in table.rows]
    channels = [count for layer in layers for count in (layer.in_channels, layer.out_channels)]
    sizes = [layer.height for layer in layers] + [layer.width for layer in layers]
    return "\n".join(
        [
            "## Not good for",
            "",
            f"- blocks far from what it saw: {min(channels)} to {max(channels)} channels, {min(sizes)} to "
            f"{max(sizes)} pixels a side;",
            "- another run time, number of threads, batch, number format, clock or cooling: profile those;",
            "- a whole network to the percent: blocks are timed one call each, so a sum of blocks counts the "
            "cost of a call once a block, and what a run time fuses across blocks is not in it.",
        ]
    )
