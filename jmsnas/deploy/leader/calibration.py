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
from jmsnas.nas.latency.load_estimators import estimators_for
from jmsnas.progress import Progress, silent
from jmsnas.space import Block, SearchSpace
from jmsnas.topology import Network
from jmsnas.workspace import Workspace, check_name

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Calibrated:
    """U(.) of a device, times what a deployment showed."""

    estimator: Estimator
    factor: float

    def predict_s(self, blocks: Sequence[Block]) -> NDArray[np.float64]:
        """Seconds of each block."""
        seconds: NDArray[np.float64] = self.factor * self.estimator.predict_s(blocks)
        return seconds


def predictors_for(
    network: Network,
    space: SearchSpace,
    place: Workspace,
    tell: Callable[[str], None],
    progress: Progress = silent,
) -> tuple[dict[str, Calibrated], dict[str, str]]:
    """Give each device's U(.) with its calibration, and what it rests on (`jmsnas.origin`).

    Raises EstimatorError where a device has no table, with the command that makes one.
    """
    estimators = estimators_for(network, space, place, 0, progress, tell)
    found = {
        device.name: Calibrated(estimators[device.name], read_factor(place, device.table, device.runtime))
        for device in network.devices
    }
    return found, {name: its.origin for name, its in estimators.items()}


def calibrate(document: dict[str, Any], network: Network, place: Workspace) -> dict[str, float]:
    """Keep, for each device's table, the ratio of measured to predicted compute: later predictions use it.

    Held terms teach nothing. Devices that share a table and a run time share the median of their ratios.
    """
    tables = {device.name: _kept_as(device.table, device.runtime) for device in network.devices}
    ratios: dict[str, list[float]] = {}
    for term in document["terms"]:
        if term["kind"] == "compute" and term["ratio"]:
            ratios.setdefault(tables[term["where"]], []).append(float(term["ratio"]))
    factors = {}
    for table, found in ratios.items():
        factors[table] = _factor(place, table) * float(np.median(found))
        write_json(
            _path(place, table),
            {
                "schema_version": SCHEMA_VERSION,
                "device": table,
                "factor": factors[table],
                "terms": len(found),
            },
        )
    return factors


def read_factor(place: Workspace, table: str, runtime: str = "onnxruntime") -> float:
    """Read a device's calibration: 1 where there is none. Raises InputError."""
    return _factor(place, _kept_as(table, runtime))


def _kept_as(table: str, runtime: str) -> str:
    return table if runtime == "onnxruntime" else f"{table}-{runtime}"


def _factor(place: Workspace, table: str) -> float:
    path = _path(place, table)
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


def _path(place: Workspace, table: str) -> Path:
    return place.folder / "calibration" / f"{check_name(table)}.json"
