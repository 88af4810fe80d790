"""Fit the eager constants of a server core to the first half of the Xeon Gold 6130's published table.

    python benchmarks/fit_xeon6130.py --data-dir DIR

Prints them for the 6130; devices/cloud-cpu.toml has them times the ratio of clocks. Errors are logarithms of
ratios, robust (soft L1), and each constant is drawn towards its start, as docs/simulated_devices.md says.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from published_tables import XEON_6130, Published
from scipy.optimize import least_squares
from simulated_devices import Array, as_published, in_first_half

from jmsnas.profiler.simulation.device_file import OperatorClassCosts, SimulatedDevice, SourcedConstant
from jmsnas.profiler.simulation.roofline import load_simulated_device, operators_latency_s

START = {
    "per_call_s": 30e-6,
    "pointwise.macs_per_s": 4e10,
    "pointwise.bytes_per_s": 1e10,
    "pointwise.overhead_s": 100e-6,
    "depthwise.macs_per_s": 5e9,
    "depthwise.bytes_per_s": 1e10,
    "depthwise.overhead_s": 50e-6,
    "elementwise.bytes_per_s": 1e10,
    "elementwise.overhead_s": 50e-6,
    "ragged_s": 1e-7,
}
PULL = 0.01
ROBUST_FROM = 0.1


def with_constants(values: Mapping[str, float]) -> SimulatedDevice:
    """cloud-cpu with other constants under torch, by their names in START."""
    device = load_simulated_device("cloud-cpu")

    def constant(name: str, otherwise: SourcedConstant) -> SourcedConstant:
        return SourcedConstant(values[name], "fitted") if name in values else otherwise

    costs = device.runtimes["torch"]
    classes = {
        name: OperatorClassCosts(
            constant(f"{name}.macs_per_s", of_class.macs_per_s),
            constant(f"{name}.bytes_per_s", of_class.bytes_per_s),
            constant(f"{name}.overhead_s", of_class.overhead_s),
        )
        for name, of_class in costs.classes.items()
    }
    fitted = replace(costs, per_call_s=constant("per_call_s", costs.per_call_s), classes=classes)
    return replace(device, runtimes={"torch": fitted})


def fit(published: list[Published]) -> dict[str, float]:
    """Constants of the 6130 by their names in START, from these rows alone."""
    names, start = list(START), np.log(list(START.values()))
    measured_s = np.array([row.measured_s for row in published])
    ragged = np.array([row.ragged for row in published])

    def residuals(logarithms: Array) -> Array:
        values = dict(zip(names, np.exp(logarithms), strict=True))
        device = with_constants(values)
        predicted_s = np.array([operators_latency_s(device, "torch", row.launched) for row in published])
        predicted_s = as_published(published, predicted_s + values["ragged_s"] * ragged)
        error = np.log(predicted_s / measured_s) / ROBUST_FROM
        robust = ROBUST_FROM * np.sqrt(2 * (np.sqrt(1 + error**2) - 1) / len(error))
        return np.concatenate([robust, PULL * (logarithms - start)])

    return dict(zip(names, np.exp(least_squares(residuals, start).x).tolist(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of the published tables")
    published = list(XEON_6130(parser.parse_args().data_dir))
    first = in_first_half(published)
    kept = [row for row, used in zip(published, first, strict=True) if used]
    for name, value in fit(kept).items():
        print(f"{name:24}{value:.3g}")


if __name__ == "__main__":
    main()
