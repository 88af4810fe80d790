"""Validate the simulated devices on published latency tables.

    python benchmarks/simulated_devices.py --data-dir DIR [--json FILE] [--check]

DIR has the published tables as Parquet (docs/simulated_devices.md names their sources). Layer geometries are
split at random (seeded) into halves: the constants were fitted to the first, the second is reported. The
first comparison of a runtime must agree with `checked` in its device file.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from harness import benchmark_parser, finish
from published_tables import (
    CORTEX_A73,
    RPI4_TF_EAGER,
    RPI4_TFLITE,
    XEON_6130,
    XEON_6130_SE,
    Published,
    Reader,
    ofa_v100,
)
from scipy.optimize import nnls
from scipy.stats import spearmanr
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jmsnas.arrays import BoolArray, FloatArray
from jmsnas.profiler.simulation.roofline import (
    load_simulated_device,
    operators_latency_s,
    simulated_device_names,
)

SEED = 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Published table with the device and runtime that it is compared with.

    `adjust` is what is fitted to the FIRST half before the comparison: `none`; `factor`, one number, for a
    related processor; `overheads`, seconds per call and per operator, for another framework on the same
    processor. `factor` is a known ratio (clocks); `ragged_s` the seconds that the table's framework spends on
    each weight of a ragged depthwise stage, fitted with the constants; `held_out` is false if no row of the
    table was used for the constants, so that all rows are reported. `choices` describes a row by its
    publisher's design choices: if the rank of a ridge regression over them, fitted to the first half, is
    below `min_spearman` on the second, that rank is the bar, since the rest is noise of the table.
    """

    table: str
    device: str
    runtime: str
    rows: Reader
    adjust: str = "none"
    factor: float = 1.0
    ragged_s: float = 0.0
    held_out: bool = True
    choices: Callable[[Published], list[float]] | None = None
    min_spearman: float = 0.95
    max_median_error: float = 0.25


def in_first_half(published: list[Published]) -> BoolArray:
    """Whether each row is in the half that constants are fitted to: a seeded random split of the groups."""
    groups = sorted({row.group for row in published})
    order = np.random.default_rng(SEED).permutation(len(groups))
    first = {groups[i] for i in order[: len(groups) // 2]}
    return np.array([row.group in first for row in published])


def as_published(published: list[Published], predicted_s: FloatArray) -> FloatArray:
    """Sort the predictions of each curve whose latencies were published in sorted order."""
    curves: dict[tuple[Any, ...], list[int]] = {}
    for index, row in enumerate(published):
        if row.curve:
            curves.setdefault(row.curve, []).append(index)
    found = predicted_s.copy()
    for rows in curves.values():
        rows.sort(key=lambda index: published[index].measured_s)
        found[rows] = np.sort(predicted_s[rows])
    return found


def predictions(
    comparison: Comparison, published: list[Published], first: BoolArray
) -> tuple[FloatArray, str]:
    """Predicted seconds of each row, and a description of what was adjusted on the first half."""
    device = load_simulated_device(comparison.device)
    batches_s = [
        operators_latency_s(device, comparison.runtime, row.launched, row.batch) for row in published
    ]
    predicted_s = np.array(batches_s) * comparison.factor
    measured_s = np.array([row.measured_s for row in published])
    if comparison.adjust == "factor":
        factor = float(np.median(measured_s[first] / predicted_s[first]))
        return predicted_s * factor, f"times {factor:.3g}, fitted"
    if comparison.adjust == "overheads":
        return _with_other_overheads(comparison, published, predicted_s, measured_s, first)
    adjustments = []
    if comparison.factor != 1:
        adjustments.append(f"times {comparison.factor:.3g}, clocks")
    if comparison.ragged_s:
        predicted_s += comparison.ragged_s * np.array([row.ragged for row in published])
        adjustments.append(f"{comparison.ragged_s * 1e9:.0f} ns a ragged weight")
    return as_published(published, predicted_s), "; ".join(adjustments) or "nothing"


def _with_other_overheads(
    comparison: Comparison,
    published: list[Published],
    predicted_s: FloatArray,
    measured_s: FloatArray,
    first: BoolArray,
) -> tuple[FloatArray, str]:
    """Replace the cost of a call and of a launch by those of the table's framework."""
    costs = load_simulated_device(comparison.device).runtimes[comparison.runtime]
    launched = np.array([len(row.launched) for row in published], dtype=float)
    overheads_s = {
        of_class.overhead_s.value for of_class in (costs.pointwise, costs.depthwise, costs.elementwise)
    }
    if len(overheads_s) != 1:
        raise SystemExit(f"{comparison.device} has several launch costs: they cannot be exchanged for one")
    rates_s = predicted_s - costs.per_call_s.value - overheads_s.pop() * launched
    columns = np.stack([np.ones(len(launched)), launched], axis=1)
    shares = columns / measured_s[:, None]
    fitted_s, _ = nnls(shares[first], 1 - rates_s[first] / measured_s[first])
    adjusted = f"{fitted_s[0] * 1e3:.2g} ms + {fitted_s[1] * 1e3:.2g} ms an operator, fitted"
    return rates_s + columns @ fitted_s, adjusted


def ofa_choices(row: Published) -> list[float]:
    """Design choices of a Once-for-All model: layers, kernel sizes, expansions, resolution."""
    arch = json.loads(row.group[0])
    found = [float(np.ravel(arch["r"])[0])]
    for layer in range(20):
        present = layer % 4 < arch["d"][layer // 4]
        found += [float(present), float(present * arch["ks"][layer]), float(present * arch["e"][layer])]
    return found


def rank_of_choices(
    choices: Callable[[Published], list[float]], published: list[Published], first: BoolArray
) -> float:
    """Spearman's correlation on the second half of a ridge regression fitted to the first."""
    x = np.array([choices(row) for row in published])
    y = np.log([row.measured_s for row in published])
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 25))).fit(x[first], y[first])
    return float(spearmanr(ridge.predict(x[~first]), y[~first])[0])


def compare(comparison: Comparison, folder: Path) -> dict[str, Any]:
    """Compare one device with one published table, on the second half of its geometries."""
    published = list(comparison.rows(folder))
    first = in_first_half(published)
    predicted_s, adjusted = predictions(comparison, published, first)
    measured_s = np.array([row.measured_s for row in published])
    second = ~first if comparison.held_out else np.ones_like(first)
    error = np.abs(predicted_s / measured_s - 1)[second]
    spearman = float(spearmanr(predicted_s[second], measured_s[second])[0])
    median_error = float(np.median(error))
    limit = rank_of_choices(comparison.choices, published, first) if comparison.choices else None
    bar = min(comparison.min_spearman, limit or 1)
    return {
        "device": comparison.device,
        "runtime": comparison.runtime,
        "published": comparison.table,
        "evidence": load_simulated_device(comparison.device).runtimes[comparison.runtime].evidence,
        "adjusted": adjusted,
        "rows": int(second.sum()),
        "geometries": len({row.group for row, kept in zip(published, second, strict=True) if kept}),
        "spearman": spearman,
        "median_error": median_error,
        "p90_error": float(np.quantile(error, 0.9)),
        "min_spearman": bar,
        "spearman_of_choices": limit,
        "max_median_error": comparison.max_median_error,
        "pass": spearman >= bar and median_error <= comparison.max_median_error,
    }


# Seconds of PyTorch 1.1 on the 6130 for each weight of a depthwise stage whose width is no multiple of 16: a
# property of that framework, not of the device (docs/simulated_devices.md).
RAGGED_S = 1.25e-7
COMPARISONS = (
    Comparison("Raspberry Pi 4, TensorFlow Lite", "pi4", "onnxruntime", RPI4_TFLITE),
    Comparison("Cortex-A73, ARM Compute Library", "pi4", "onnxruntime", CORTEX_A73, "factor"),
    Comparison("Raspberry Pi 4, TensorFlow eager", "pi4", "torch", RPI4_TF_EAGER, "overheads"),
    Comparison(
        "Xeon Gold 6130, PyTorch 1.1", "cloud-cpu", "torch", XEON_6130, factor=1.08, ragged_s=RAGGED_S
    ),
    Comparison(
        "the same with squeeze-excite", "cloud-cpu", "torch", XEON_6130_SE,
        factor=1.08, ragged_s=RAGGED_S, held_out=False,
    ),
    Comparison("V100, PyTorch, models", "cloud", "torch", ofa_v100, choices=ofa_choices),
)  # fmt: skip


def outdated_validations(results: list[dict[str, Any]]) -> list[str]:
    """List the runtimes whose `checked` in the device file differs from the results here."""
    first: dict[tuple[str, str], dict[str, Any]] = {}
    for result in results:
        first.setdefault((result["device"], result["runtime"]), result)
    found = []
    for name in simulated_device_names():
        for runtime, costs in load_simulated_device(name).runtimes.items():
            checked, result = costs.checked, first.get((name, runtime))
            if checked is None and result is None:
                continue
            if checked is None or result is None:
                found.append(f"{name} {runtime}: {'no' if checked is None else 'a'} `checked` in its file")
            elif (
                checked.rows != result["rows"]
                or abs(checked.rank - result["spearman"]) > 0.005
                or abs(checked.median_error - result["median_error"]) > 0.01
            ):
                found.append(f"{name} {runtime}: its file has {checked}")
    return found


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of the published tables")
    arguments = parser.parse_args()
    results = [compare(comparison, arguments.data_dir) for comparison in COMPARISONS]
    print(
        f"{'device':11}{'runtime':12}{'published':33}{'rows':>5}{'rho':>7}{'median':>8}{'p90':>7}  adjusted"
    )
    for result in results:
        print(
            f"{result['device']:11}{result['runtime']:12}{result['published']:33}{result['rows']:5}"
            f"{result['spearman']:7.3f}{result['median_error']:8.1%}{result['p90_error']:7.1%}  "
            f"{result['adjusted']}{'' if result['pass'] else '  MISSED'}"
        )
        if result["spearman_of_choices"] is not None:
            print(f"{'':61}{result['spearman_of_choices']:7.3f}{'':17}a ridge regression over all choices")
    compared = {(comparison.device, comparison.runtime) for comparison in COMPARISONS}
    for name in simulated_device_names():
        for runtime, costs in load_simulated_device(name).runtimes.items():
            if (name, runtime) not in compared:
                print(f"{name:11}{runtime:12}no table for validation: {costs.basis}")
    missed = [
        f"{result['device']} {result['runtime']}, {result['published']}: rank {result['spearman']:.3f}, "
        f"median error {result['median_error']:.1%}"
        for result in results
        if not result["pass"]
    ]
    finish(arguments, {"seed": SEED, "results": results}, [*missed, *outdated_validations(results)])


if __name__ == "__main__":
    main()
