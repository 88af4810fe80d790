"""The model card of an estimator: what it speaks for, how good it is, what it is not good for.

After Mitchell et al., Model Cards for Model Reporting, FAT* 2019 (arXiv 1810.03993).
"""

import math
from collections import Counter
from collections.abc import Sequence
from statistics import median

from jmsnas.estimators.evaluation.evaluate import Evaluation, Scores, SplitScores
from jmsnas.estimators.evaluation.hold_out import MODEL, ROOFLINE
from jmsnas.estimators.regression.conformal import LEVELS
from jmsnas.estimators.regression.gaussian_process import PRIOR_LENGTH_SCALE
from jmsnas.estimators.regression.residual_models import model_names
from jmsnas.estimators.store.fit_record import FitRecord
from jmsnas.profiler.table.latency_table import TRUST_LEVELS, BlockRow, LatencyTable


def model_card(
    table: LatencyTable, recipe: FitRecord, evaluation: Evaluation, margins: Sequence[float]
) -> str:
    """Write the card in Markdown.

    Parameters
    ----------
    table
        The rows of one key that the estimator was fitted to.
    margins
        How far the 90 % interval reaches at each of `doubt.LEVELS`: logarithm of the factor either way.
    """
    key = recipe.key
    parts = [
        f"# Latency estimator of `{table.device}`, {key.label}",
        _origin(table, recipe),
        "Given a block of a network (`mb_k5_e6 16->24 8x8 /2`: kernel size 5, expansion 6, 16 to 24 "
        f"channels, 8x8 pixels in, stride 2) it answers with the seconds of one call under {key.runtime} on "
        f"`{table.device}`: {key.threads} thread{'s' * (key.threads > 1)}, batch {key.batch}, {key.dtype}. "
        "A block that was measured answers as measured; any other is predicted, with an interval.",
        errors_section(evaluation, margins),
        model_section(recipe),
        _limits(table),
        f"## To fit it again\n\n```\njmsnas profile --device {table.device}\n"
        f"jmsnas fit-estimator --device {table.device} --seed {recipe.seed}\n```\n\n"
        f"`table.parquet` and `recipe.json` beside this card are what it is loaded from; rows' SHA-256 "
        f"`{recipe.table_sha256}`. First fitted with "
        + ", ".join(f"{name} {text}" for name, text in recipe.versions.items())
        + ".",
    ]
    return "\n\n".join(parts) + "\n"


def _origin(table: LatencyTable, recipe: FitRecord) -> str:
    rows, simulated = table.rows, [row for row in table.rows if row.kind == "simulated"]
    dates = sorted({row.measured_at[:10] for row in rows})
    facts = [f"- {len(rows)} rows, {' to '.join(dict.fromkeys((dates[0], dates[-1])))}"]
    facts += [f"- from: {source}" for source in sorted({row.source for row in rows})]
    for name in sorted({row.environment for row in rows}):
        known = ", ".join(f"{what} {text}" for what, text in table.environments.get(name, {}).items())
        facts.append(f"- environment {name}: {known or 'not recorded'}")
    measured = [row for row in rows if row.kind == "measured"]
    if measured:
        steady = sum(row.converged for row in measured) / len(measured)
        facts.append(
            f"- measured: median of {median(row.rounds for row in measured):g} rounds a row, each sample "
            f"beside a reference block; {steady:.0%} of rows reached the interval asked for, median "
            f"half width {median(row.half_width for row in measured):.2%}"
        )
        facts += [f"- trust: {_trust(measured)}"]
    head = "MEASURED on the device."
    if recipe.simulated:
        head = (
            f"**SIMULATED: {len(simulated)} of {len(rows)} rows are not measurements of this device** but a "
            "roofline of published figures. The errors below say how well the estimator follows that "
            "roofline, NOT how well it follows the device."
        )
    imported = sum(row.kind == "imported" for row in rows)
    if imported:
        head = (
            f"**IMPORTED: {imported} of {len(rows)} rows were measured by others**, and nothing is known of "
            "how. The errors below say how well the estimator follows those figures."
        )
    return "\n".join([head, "", *facts])


def _trust(rows: Sequence[BlockRow]) -> str:
    """Count rows by their mark, with the commonest reason of those that are not green."""
    marks = Counter(row.trust for row in rows)
    said = ", ".join(f"{marks[mark]} {mark}" for mark in TRUST_LEVELS if marks[mark])
    doubted = Counter(row.trust_reason for row in rows if row.trust != "green").most_common(1)
    return f"{said} (mostly: {doubted[0][0]}); each counts by how far it can be trusted" if doubted else said


def errors_section(evaluation: Evaluation, margins: Sequence[float]) -> str:
    """Write how far off it is, beside simpler predictors, and how far its intervals reach."""
    own = evaluation.model
    lines = [
        "## How far off it is",
        "",
        f"On blocks of layer geometries it had never seen it was {own.mape:.1%} off on the mean, "
        f"{own.within_10:.0%} of them were predicted within 10 %, and its 90 % interval held "
        f"{evaluation.coverage:.0%}. Judged on {evaluation.rows} rows of {evaluation.geometries} geometries "
        f"(channels in and out, height, width, stride), whole geometries held out {evaluation.folds} ways; "
        "the model was chosen anew each time. Few geometries make these figures coarse.",
        "",
        "| predictor | MAPE | RMSPE | within 5 % | within 10 % | Spearman |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_line(name, found) for name, found in evaluation.splits[0].scores.items()),
        "",
        "MAPE is the mean of |predicted / measured - 1|, RMSPE its root mean square, Spearman the "
        "correlation of ranks. `line over MACs` is a least-squares line over multiply-accumulates, `nearest "
        "block` the measured block most like it. Blocks that do no work (Identity) are not counted.",
        "",
        "| held out | MAPE | roofline alone | within 10 % | in 90 % interval |",
        "| --- | --- | --- | --- | --- |",
        *(_split(judged) for judged in evaluation.splits),
        "",
        "`random` hides blocks whose neighbours were seen; `20 rows` saw 20 rows drawn blindly and predicted "
        "the rest.",
        "",
        "| a block of | 90 % interval around a prediction |",
        "| --- | --- |",
        *(f"| {level} | {_reach(margin)} |" for level, margin in zip(LEVELS, margins, strict=True)),
        "",
        "Beyond the sizes it saw an interval widens with every doubling.",
    ]
    return "\n".join(lines)


def _line(name: str, found: Scores) -> str:
    rank = "-" if found.spearman is None else f"{found.spearman:.3f}"
    shares = (found.mape, found.rmspe, found.within_5, found.within_10)
    title = {MODEL: "this estimator", ROOFLINE: "roofline alone"}.get(name, name)
    return f"| {title} | " + " | ".join(f"{share:.1%}" for share in shares) + f" | {rank} |"


def _split(judged: SplitScores) -> str:
    own, roofline = judged.scores[MODEL], judged.scores[ROOFLINE]
    shares = f"{own.mape:.1%} | {roofline.mape:.1%} | {own.within_10:.0%} | {judged.coverage:.0%}"
    return f"| {judged.split} | {shares} |"


def _reach(margin: float) -> str:
    return f"-{-math.expm1(-margin):.1%} to +{math.expm1(margin):.1%}"


def model_section(recipe: FitRecord) -> str:
    """Write what was chosen, among what, and the rates of the roofline."""
    choice = recipe.choice
    tried = "\n".join(
        f"| {model_names(models) if models else 'roofline alone'} | {mape:.1%} |"
        for models, mape in choice.mapes
    )
    kept = "nothing more: no model of the rest was shown to help"
    if choice.residual:
        kept = f"a model of the logarithm of the rest: {model_names(choice.residual)}"
        kept += f", of which {choice.share:.0%} is believed" if choice.share < 1 else ""
    rates = "\n".join(
        f"| {_work(name)} | {_rate(name, rate)} |" for name, rate in recipe.rates.items() if rate > 0
    )
    parts = [
        "## Model",
        "A roofline (amounts of work times rates that are never negative, fitted to relative errors), and "
        f"{kept}. Tried on geometries left out, of few rows fewer at a time than above:",
        f"| on top of the roofline | MAPE |\n| --- | --- |\n{tried}",
        "The rates of the roofline:",
        f"| work | at |\n| --- | --- |\n{rates}",
        "A rate is what the rows show once all others are paid, not the processor's own; what is missing was "
        "found to take nothing of its own. MACs are multiply-accumulates, bytes what "
        "crosses memory; expand, depthwise and project are the stages of a block. Where a depthwise kernel's "
        "padding is wider than its output, `overpadded` comes on top.",
    ]
    if recipe.lengths:
        # Beyond ten standard deviations an input hardly matters; what all rows share stays where it began.
        near = [
            f"{name.removeprefix('log_').replace('_', ' ')} {length:.2g}"
            for name, length in recipe.lengths.items()
            if length < 10 and abs(length - PRIOR_LENGTH_SCALE) > 1e-6
        ]
        parts.append(
            "The Gaussian process takes blocks for alike that differ by less than, in standard deviations: "
            f"{', '.join(near)}."
        )
    return "\n\n".join(parts)


def _work(name: str) -> str:
    """Name a column of the roofline for people: `MACs, expand`, `a launch, convolutions`."""
    of, _, unit = name.rpartition("_")
    if unit in ("macs", "bytes"):
        return f"{unit.replace('macs', 'MACs')}, {of}"
    return "a call" if name == "constant_s" else f"a launch, {name.replace('_', ' ')}"


def _rate(name: str, seconds: float) -> str:
    """Say what a unit of work takes as a rate, or in microseconds."""
    unit = {"macs": "GMAC/s", "bytes": "GB/s"}.get(name.rpartition("_")[2])
    return f"{1e-9 / seconds:.3g} {unit}" if unit else f"{1e6 * seconds:.3g} us"


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
