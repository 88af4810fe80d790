"""Fit the roofline constants of eager torch on a server core to the Xeon Gold 6130's published table.

    python benchmarks/fit_xeon6130.py --data-dir DIR

Uses the first half of the table and prints the constants of the 6130; devices/cloud-cpu.toml has them times
the ratio of clocks. Errors are logarithms of ratios with a robust loss (soft L1), and each constant is
regularised towards its start (docs/simulated_devices.md).
"""

import argparse
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import msgspec
import numpy as np
from published_tables import XEON_6130, Published
from scipy.optimize import least_squares
from simulated_devices import as_published, in_first_half

from jmsnas.arrays import FloatArray
from jmsnas.profiler.simulation.device_file import SimulatedDevice, device_from_toml
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
    """Device cloud-cpu with other constants for torch, by their names in START."""
    device = load_simulated_device("cloud-cpu")
    document = msgspec.to_builtins(device, builtin_types=(date,))
    for name, value in values.items():
        *path, key = name.split(".")
        table = document["torch"][path[0]] if path else document["torch"]
        if key in table:
            table[key] = {"value": float(value), "source": "fitted"}
    return device_from_toml(document, "cloud-cpu.toml")


def fit(published: list[Published]) -> dict[str, float]:
    """Fit the constants of the 6130, by their names in START, to published rows."""
    names, start = list(START), np.log(list(START.values()))
    measured_s = np.array([row.measured_s for row in published])
    ragged = np.array([row.ragged for row in published])

    def residuals(logarithms: FloatArray) -> FloatArray:
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
