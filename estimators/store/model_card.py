"""Model card of an estimator in Markdown: origin, errors, chosen model and limits.

After Mitchell et al., Model Cards for Model Reporting, FAT* 2019 (arXiv 1810.03993).
"""

import math
from collections import Counter
from collections.abc import Sequence
from statistics import median

from jmsnas.estimators.evaluation.evaluate import Evaluation, Scores, SplitScores
from jmsnas.estimators.evaluation.hold_out import MODEL, ROOFLINE
from jmsnas.estimators.regression.block_shape import BlockShape
from jmsnas.estimators.regression.conformal import LEVELS
from jmsnas.estimators.regression.gaussian_process import PRIOR_LENGTH_SCALE
from jmsnas.estimators.regression.residual_models import model_names
from jmsnas.estimators.store.fit_record import FitRecord
from jmsnas.profiler.table.latency_table import TRUST_LEVELS, BlockRow, LatencyTable
from jmsnas.space import Layer


def model_card(
    table: LatencyTable, record: FitRecord, evaluation: Evaluation, margins: Sequence[float]
) -> str:
    """Write the model card of an estimator fitted to a table of one key.

    `margins` are the half-widths of the 90 % interval in log seconds, at each of `conformal.LEVELS`.
    """
    key = record.key
    parts = [
        f"# Latency estimator of `{table.device}`, {key.label}",
        _origin(table, record),
        "Given a block of a model (`mb_k5_e6 16->24 8x8 /2`: kernel size 5, expansion 6, 16 to 24 "
        f"channels, 8x8 pixels in, stride 2) it returns the seconds of one call under {key.runtime} on "
        f"`{table.device}`: {key.threads} thread{'s' * (key.threads > 1)}, batch {key.batch}, {key.dtype}. "
        "For a measured block that is the measured latency; any other block is predicted, with an interval.",
        _NOT_EVALUATED if record.simulated else errors_section(evaluation, margins),
        model_section(record),
        limits_section(
            [row.block.layer for row in table.rows],
            "another runtime, number of threads, batch, number format, clock or cooling: profile those;",
            "whole models to the percent: blocks are timed one call each, so a sum of blocks has the cost "
            "of a call for every block, and not the gain of fusion across blocks.",
        ),
        f"## To fit it again\n\n```\njmsnas profile --device {table.device}\n"
        f"jmsnas fit-estimator --device {table.device} --seed {record.seed}\n```\n\n"
        "It is loaded from `table.parquet` and `recipe.json` beside this card; SHA-256 of the rows: "
        f"`{record.table_sha256}`. First fitted with "
        + ", ".join(f"{name} {text}" for name, text in record.versions.items())
        + ".",
    ]
    return "\n\n".join(parts) + "\n"


_NOT_EVALUATED = (
    "## Errors\n\nSimulated: not evaluated. Errors against a simulation are those of a roofline against a "
    "roofline, and tell nothing of the device: measure it with `jmsnas profile`."
)


def _origin(table: LatencyTable, record: FitRecord) -> str:
    rows, simulated = table.rows, [row for row in table.rows if row.kind == "simulated"]
    dates = sorted({row.measured_at[:10] for row in rows})
    facts = [f"- {len(rows)} rows, {' to '.join(dict.fromkeys((dates[0], dates[-1])))}"]
    facts += [f"- from: {source}" for source in sorted({row.source for row in rows})]
    for name in sorted({row.environment for row in rows}):
        known = ", ".join(f"{what} {text}" for what, text in table.environments.get(name, {}).items())
        facts.append(f"- environment {name}: {known or 'not recorded'}")
    measured = [row for row in rows if row.kind == "measured"]
    if measured:
        converged = sum(row.converged for row in measured) / len(measured)
        facts.append(
            f"- measured: median of {median(row.rounds for row in measured):g} rounds per row, each sample "
            f"paired with a reference block; {converged:.0%} of rows reached the requested interval, median "
            f"half-width {median(row.half_width for row in measured):.2%}"
        )
        facts += [f"- trust: {_trust(measured)}"]
    head = "MEASURED on the device."
    if record.simulated:
        head = (
            f"**SIMULATED: {len(simulated)} of {len(rows)} rows are not measurements of this device** but a "
            "roofline of published figures."
        )
    imported = sum(row.kind == "imported" for row in rows)
    if imported:
        head = (
            f"**IMPORTED: {imported} of {len(rows)} rows were measured by others** in an unknown way. The "
            "errors below are those against these rows."
        )
    return "\n".join([head, "", *facts])


def _trust(rows: Sequence[BlockRow]) -> str:
    """Summarise the trust levels of rows, with the most common reason of those that are not green."""
    levels = Counter(row.trust for row in rows)
    summary = ", ".join(f"{levels[level]} {level}" for level in TRUST_LEVELS if levels[level])
    reasons = Counter(row.trust_reason for row in rows if row.trust != "green").most_common(1)
    return f"{summary} (mostly: {reasons[0][0]}); rows are weighted by their trust" if reasons else summary


def errors_section(evaluation: Evaluation, margins: Sequence[float]) -> str:
    """Write the section on errors, beside those of baseline predictors, and on intervals."""
    own = evaluation.model
    lines = [
        "## Errors",
        "",
        f"On blocks of held-out layer geometries its mean error is {own.mape:.1%}; "
        f"{own.within_10:.0%} of them are predicted within 10 %, {evaluation.coverage:.0%} are in its 90 % "
        f"interval. Cross-validated on {evaluation.rows} rows of {evaluation.geometries} geometries "
        f"(channels in and out, height, width, stride) in {evaluation.folds} folds of whole geometries, with "
        "model selection in every fold. With few geometries these figures are coarse.",
        "",
        "| predictor | MAPE | RMSPE | within 5 % | within 10 % | Spearman |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_line(name, scores) for name, scores in evaluation.splits[0].scores.items()),
        "",
        "MAPE is the mean of |predicted / measured - 1|, RMSPE its root mean square, Spearman the rank "
        "correlation. `line over MACs` is a least-squares line over multiply-accumulates, `nearest block` "
        "the nearest measured block. Blocks without work (identities) are not scored.",
        "",
        "| held out | MAPE | roofline alone | within 10 % | in 90 % interval |",
        "| --- | --- | --- | --- | --- |",
        *(_split_line(scores) for scores in evaluation.splits),
        "",
        "`random` holds out random rows, with rows of the same geometry in training; `20 rows` trains on 20 "
        "random rows.",
        "",
        "| a block of | 90 % interval around a prediction |",
        "| --- | --- |",
        *(f"| {level} | {_interval(margin)} |" for level, margin in zip(LEVELS, margins, strict=True)),
        "",
        "Outside the training range an interval widens with every doubling of a size.",
    ]
    return "\n".join(lines)


def _line(name: str, scores: Scores) -> str:
    rank = "-" if scores.spearman is None else f"{scores.spearman:.3f}"
    shares = (scores.mape, scores.rmspe, scores.within_5, scores.within_10)
    title = {MODEL: "this estimator", ROOFLINE: "roofline alone"}.get(name, name)
    return f"| {title} | " + " | ".join(f"{share:.1%}" for share in shares) + f" | {rank} |"


def _split_line(split: SplitScores) -> str:
    own, roofline = split.scores[MODEL], split.scores[ROOFLINE]
    shares = f"{own.mape:.1%} | {roofline.mape:.1%} | {own.within_10:.0%} | {split.coverage:.0%}"
    return f"| {split.split} | {shares} |"


def _interval(margin: float) -> str:
    return f"-{-math.expm1(-margin):.1%} to +{math.expm1(margin):.1%}"


def model_section(record: FitRecord) -> str:
    """Write the section on the chosen model, the other candidates and the rates of the roofline."""
    choice = record.choice
    residual = "no residual model: none improves the cross-validated error"
    if choice.residual:
        residual = f"a residual model of its logarithmic error: {model_names(choice.residual)}"
        residual += f", shrunk to {choice.share:.0%}" if choice.share < 1 else ""
    rates = "\n".join(
        f"| {_work(name)} | {_rate(name, rate)} |" for name, rate in record.rates.items() if rate > 0
    )
    parts = [
        "## Model",
        f"A roofline (amounts of work times non-negative rates, fitted to relative errors), and {residual}."
        + ("" if record.simulated else _CANDIDATES),
        *([] if record.simulated else [_candidates(choice.mapes)]),
        "The rates of the roofline:",
        f"| work | at |\n| --- | --- |\n{rates}",
        "Rates are coefficients of a joint fit, not properties of the processor; those that are missing were "
        "fitted as zero time. MACs are multiply-accumulates, bytes are memory traffic; expand, depthwise and "
        "project are the stages of a block. `overpadded` is added for depthwise kernels whose padding is "
        "wider than their output.",
    ]
    if record.lengths:
        # Beyond ten standard deviations an input hardly matters; a constant input keeps the prior's scale.
        scales = [
            f"{name.removeprefix('log_').replace('_', ' ')} {length:.2g}"
            for name, length in record.lengths.items()
            if length < 10 and abs(length - PRIOR_LENGTH_SCALE) > 1e-6
        ]
        parts.append(
            "Length scales of the Gaussian process, in standard deviations of each input: "
            f"{', '.join(scales)}."
        )
    return "\n\n".join(parts)


_CANDIDATES = " Candidates and their errors on held-out geometries (with few rows, in more folds than above):"


def _candidates(mapes: Sequence[tuple[Sequence[str], float]]) -> str:
    tried = "\n".join(
        f"| {model_names(models) if models else 'roofline alone'} | {mape:.1%} |" for models, mape in mapes
    )
    return f"| residual model | MAPE |\n| --- | --- |\n{tried}"


def _work(name: str) -> str:
    """Format the name of a roofline column: `MACs, expand`, `a launch, convolutions`."""
    of, _, unit = name.rpartition("_")
    if unit in ("macs", "bytes"):
        return f"{unit.replace('macs', 'MACs')}, {of}"
    return "a call" if name == "constant_s" else f"a launch, {name.replace('_', ' ')}"


def _rate(name: str, seconds: float) -> str:
    """Format the seconds of a unit of work as a rate, or in microseconds."""
    unit = {"macs": "GMAC/s", "bytes": "GB/s"}.get(name.rpartition("_")[2])
    return f"{1e-9 / seconds:.3g} {unit}" if unit else f"{1e6 * seconds:.3g} us"


def limits_section(layers: Sequence[Layer | BlockShape], *others: str) -> str:
    """Write the section on limits: the range of the layers that the estimator was fitted to, and others."""
    channels = [n for layer in layers for n in (layer.in_channels, layer.out_channels)]
    sizes = [n for layer in layers for n in (layer.height, layer.width)]
    own = (
        f"blocks outside its training range: {min(channels)} to {max(channels)} channels, {min(sizes)} "
        f"to {max(sizes)} pixels a side;"
    )
    return "\n".join(["## Not good for", "", *(f"- {limit}" for limit in (own, *others))])
