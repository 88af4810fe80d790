"""What U(.) says of each layer on each device, corrected by what was measured there before."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jmsnas.errors import InputError
from jmsnas.estimators.store.estimator import Estimator
from jmsnas.files import write_json
from jmsnas.nas.latency.load_estimators import load_estimators
from jmsnas.progress import Progress, no_progress
from jmsnas.space import Block, SearchSpace
from jmsnas.topology import Topology
from jmsnas.workspace import Workspace, check_name

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class CalibratedEstimator:
    """U(.) of a device, times what a deployment showed."""

    estimator: Estimator
    factor: float

    def predict_s(self, blocks: Sequence[Block]) -> NDArray[np.float64]:
        """Seconds of each block."""
        seconds: NDArray[np.float64] = self.factor * self.estimator.predict_s(blocks)
        return seconds


def load_calibrated_estimators(
    topology: Topology,
    space: SearchSpace,
    workspace: Workspace,
    warn: Callable[[str], None],
    progress: Progress = no_progress,
) -> tuple[dict[str, CalibratedEstimator], dict[str, str]]:
    """Give each device's U(.) with its calibration, and what it rests on (`jmsnas.origin`).

    Raises EstimatorError where a device has no table, with the command that makes one.
    """
    estimators = load_estimators(topology, space, workspace, 0, progress, warn)
    found = {
        device.name: CalibratedEstimator(
            estimators[device.name], read_factor(workspace, device.table, device.runtime)
        )
        for device in topology.devices
    }
    return found, {name: its.origin for name, its in estimators.items()}


def calibrate(document: dict[str, Any], topology: Topology, workspace: Workspace) -> dict[str, float]:
    """Keep, for each device's table, the ratio of measured to predicted compute: later predictions use it.

    Held terms teach nothing. Devices that share a table and a run time share the median of their ratios.
    """
    tables = {device.name: _kept_as(device.table, device.runtime) for device in topology.devices}
    ratios: dict[str, list[float]] = {}
    for term in document["terms"]:
        if term["kind"] == "compute" and term["ratio"]:
            ratios.setdefault(tables[term["where"]], []).append(float(term["ratio"]))
    factors = {}
    for table, found in ratios.items():
        factors[table] = _factor(workspace, table) * float(np.median(found))
        write_json(
            _path(workspace, table),
            {
                "schema_version": SCHEMA_VERSION,
                "device": table,
                "factor": factors[table],
                "terms": len(found),
            },
        )
    return factors


def read_factor(workspace: Workspace, table: str, runtime: str = "onnxruntime") -> float:
    """Read a device's calibration: 1 where there is none. Raises InputError."""
    return _factor(workspace, _kept_as(table, runtime))


def _kept_as(table: str, runtime: str) -> str:
    return table if runtime == "onnxruntime" else f"{table}-{runtime}"


def _factor(workspace: Workspace, table: str) -> float:
    path = _path(workspace, table)
    if not path.exists():
        return 1.0
    try:
        document = json.loads(path.read_bytes())
        factor = float(document["factor"])
        if document["schema_version"] != SCHEMA_VERSION or not 1e-3 < factor < 1e3:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no calibration: delete it, and run jmsnas deploy RUN --calibrate again"
        ) from error
    return factor


def _path(workspace: Workspace, table: str) -> Path:
    return workspace.folder / "calibration" / f"{check_name(table)}.json"
