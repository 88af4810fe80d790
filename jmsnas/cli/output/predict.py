"""Results of `jmsnas predict`: one JSON document, printed as a table and text."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from jmsnas.cli.predict_input import DevicePart
from jmsnas.cli.terminal import print_line, table_lines
from jmsnas.estimators.evaluation.hold_out import COVERAGE
from jmsnas.estimators.lookup import DeviceModel
from jmsnas.estimators.prediction import BlockPrediction, PartPrediction
from jmsnas.origin import NOT_EVALUATED, origin_label
from jmsnas.profiler.table.latency_table import AnyRow
from jmsnas.units import format_duration as ms

# By `BlockPrediction.kind`: the mark in tables, and its meaning.
_MARKS = {
    "measured": ("=", "row of the table, 95 % interval of the median"),
    "imported": ("i", "row measured by others, 95 % interval of the mean if they published one"),
    "simulated": ("s", "SIMULATED row, without interval"),
    "predicted": ("~", "predicted, 90 % interval"),
    "extrapolated": ("!", "predicted OUTSIDE the training range, widened 90 % interval"),
}
_ROW_COVERAGE = 0.95


def device_document(
    model: DeviceModel, whole: PartPrediction, parts: Sequence[tuple[DevicePart, PartPrediction]]
) -> dict[str, Any]:
    """Describe the predictions for one device; `parts` are the parts of a run's model on it."""
    estimator, evaluation = model.estimator, model.estimator.evaluation
    return {
        "device": estimator.device,
        "key": estimator.key.label,
        "setting": model.setting,
        "simulated": estimator.simulated,
        "origin": estimator.origin,
        "model": {
            "name": estimator.regressor.name,
            "rows": evaluation.rows,
            "geometries": evaluation.geometries,
            "unseen_mape": None if estimator.simulated else evaluation.model.mape,
            "unseen_within_10": None if estimator.simulated else evaluation.model.within_10,
            "unseen_coverage": None if estimator.simulated else evaluation.coverage,
        },
        "correction": asdict(model.correction) if model.correction else None,
        "blocks": [_block(block) for block in whole.blocks],
        "total": _total(whole),
        "cuts": [{"device": own.device, "layers": list(own.layers)} | _total(total) for own, total in parts],
    }


def _block(found: BlockPrediction) -> dict[str, Any]:
    coverage = _ROW_COVERAGE if found.row is not None and found.from_row else COVERAGE
    return {
        "block": str(found.block),
        "latency_s": found.latency_s,
        "low_s": found.low_s,
        "high_s": found.high_s,
        "coverage": coverage if found.low_s < found.high_s else None,
        "kind": found.kind,
        "row": _row(found.row),
        "nearest": str(found.nearest) if found.nearest else None,
    }


def _row(row: AnyRow | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {
        "latency_s": row.median_s,
        "kind": row.kind,
        "low_s": row.low_s,
        "high_s": row.high_s,
        "relative_ci": row.relative_ci,
        "trust": row.trust,
        "trust_reason": row.trust_reason,
    }


def _total(found: PartPrediction) -> dict[str, Any]:
    return {
        "sum": {"latency_s": found.sum_s, "low_s": found.low_s, "high_s": found.high_s},
        "corrected": asdict(found.corrected) if found.corrected else None,
        "row": _row(found.row),
    }


def print_predictions(devices: Sequence[dict[str, Any]]) -> None:
    """Print the documents of `device_document`: a table with a column per device, then their sources."""
    alone = len(devices[0]["blocks"]) == 1
    if len(devices) == 1 and alone:
        print_line(devices[0]["blocks"][0]["block"])
    else:
        _print_columns(devices)
    for found in devices:
        setting = f" ({found['setting']})" if found["setting"] else ""
        print_line(f"{found['device']}, {found['key']}{_origin(found, ', ')}{setting}")
        for line in _block_lines(found) if alone else _total_lines(found):
            print_line(f"  {line}")


def _print_columns(devices: Sequence[dict[str, Any]]) -> None:
    names = [block["block"] for block in devices[0]["blocks"]]
    columns = [["", *(f"{n:>2}  {name}" for n, name in enumerate(names, 1)), "    sum", "    corrected"]]
    for found in devices:
        corrected = found["total"]["corrected"]
        columns.append(
            [
                f"  {found['device']}{_origin(found, ' ')}",
                *(_span(block, _MARKS[block["kind"]][0]) for block in found["blocks"]),
                _span(found["total"]["sum"]),
                _span(corrected) if corrected else "  -",
            ]
        )
    widths = [max(map(len, column)) for column in columns]
    lines = list(zip(*columns, strict=True))
    if not any(found["correction"] for found in devices):
        del lines[-1]
    head, *rows = lines if len(names) > 1 else lines[:2]
    print_line(
        *table_lines([(name, f"<{width + 3}") for name, width in zip(head, widths, strict=True)], rows)
    )
    kinds = {block["kind"] for found in devices for block in found["blocks"]}
    for sign, meaning in (_MARKS[kind] for kind in _MARKS if kind in kinds):
        print_line(f"  {sign} {meaning}")
    print_line()


def _origin(found: dict[str, Any], separator: str) -> str:
    return "" if found["origin"] == "measured" else separator + origin_label(found["origin"])


def _span(found: dict[str, Any], mark: str = " ") -> str:
    below, above = (found[end] / found["latency_s"] - 1 for end in ("low_s", "high_s"))
    return f"{mark} {ms(found['latency_s'])}" + (f"  {below:+.1%} {above:+.1%}" if below or above else "")


def _block_lines(found: dict[str, Any]) -> Iterator[str]:
    (block,) = found["blocks"]
    row, latency = block["row"], ms(block["latency_s"])
    interval = (
        f"{ms(block['low_s'])} to {ms(block['high_s'])}" if block["coverage"] else "no interval is known"
    )
    if block["kind"] == "simulated":
        yield f"{latency}: SIMULATED row of this block; no interval is known"
    elif block["kind"] in ("measured", "imported"):
        by, figure = ("by others", "mean") if block["kind"] == "imported" else ("here", "median")
        yield f"{latency}, {f'95 % interval of the {figure} ' if block['coverage'] else ''}{interval}"
        yield f"measured row of this block, {by}: {row['trust']}, {row['trust_reason']}"
    else:
        yield f"{latency}, 90 % interval of a prediction {interval}"
        if row:
            yield (
                f"row of this block not used: {ms(row['latency_s'])} +- {row['relative_ci']:.0%}, "
                f"{row['trust']}, {row['trust_reason']}"
            )
        yield from _model_lines(found)
        if block["nearest"]:
            yield f"nearest geometry in the table: {block['nearest']}"
        if block["kind"] == "extrapolated":
            yield f"OUTSIDE the training range: the interval is widened{_advice(found)}"


def _advice(found: dict[str, Any]) -> str:
    return "" if found["setting"] else ": profile a --space with such blocks"


def _model_lines(found: dict[str, Any]) -> Iterator[str]:
    model = found["model"]
    yield f"predicted from {model['rows']} rows of {model['geometries']} geometries by {model['name']}"
    if found["simulated"]:
        yield NOT_EVALUATED
        return
    yield (
        f"on unseen layer geometries: MAPE {model['unseen_mape']:.1%}, {model['unseen_within_10']:.0%} "
        f"within 10 %, interval coverage {model['unseen_coverage']:.0%}"
    )


def _total_lines(found: dict[str, Any]) -> Iterator[str]:
    kinds, line = Counter(block["kind"] for block in found["blocks"]), found["correction"]
    yield "blocks: " + ", ".join(f"{kinds[kind]} {kind}" for kind in _MARKS if kinds[kind])
    if kinds["predicted"] + kinds["extrapolated"]:
        yield from _model_lines(found)
    if kinds["extrapolated"]:
        yield f"extrapolated: OUTSIDE the training range, the interval is widened{_advice(found)}"
    yield "sum: its interval is the sum of the block intervals (fully correlated errors)"
    if line:
        yield (
            f"corrected: {line['slope']:.3f} x sum and {ms(line['junction_s'])} per junction of blocks, from "
            f"{line['parts']} whole models; {line['error']:.1%} error on held-out models, "
            "which widens the interval"
        )
    else:
        yield f"not corrected: {_why_not_corrected(found)}"
    yield from _whole_lines(found["total"])
    for cut in found["cuts"]:
        corrected = f"; corrected{_span(cut['corrected'])}" if cut["corrected"] else ""
        first, last = cut["layers"][0], cut["layers"][-1]
        which = f"layers {first} to {last}" if first < last else f"layer {first}"
        yield f"{which} on {cut['device']}: sum{_span(cut['sum'])}{corrected}"
        yield from _whole_lines(cut)


def _why_not_corrected(found: dict[str, Any]) -> str:
    if found["simulated"]:
        return "a simulated device has no measured whole models"
    if found["setting"]:
        return "the published table has no whole models"
    return "too few whole models with rows of all their blocks (jmsnas profile --parts 10)"


def _whole_lines(total: dict[str, Any]) -> Iterator[str]:
    row, corrected = total["row"], total["corrected"]
    if row:
        yield f"  measured as one call:{_span(row)}; {row['trust']}, {row['trust_reason']}"
    if corrected and corrected["extrapolated"]:
        yield "  the correction is extrapolated beyond the measured whole models: less reliable"
