"""Calibration of U(.) by deployments: a factor for each latency table, kept in the workspace."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from jmsnas.arrays import FloatArray
from jmsnas.errors import DeployError, InputError
from jmsnas.estimators.store.estimator import Estimator
from jmsnas.files import read_json, write_json
from jmsnas.nas.latency.load_estimators import load_estimators
from jmsnas.progress import Progress, no_progress
from jmsnas.space import Block, SearchSpace
from jmsnas.topology import Topology
from jmsnas.workspace import Workspace, check_name

_LEAST, _MOST = 1e-3, 1e3


@dataclass(frozen=True, slots=True)
class _Calibration:
    """Content of a calibration file: `terms` ratios gave the `factor` of the table `device`."""

    schema_version: Literal[1]
    device: str
    factor: Annotated[float, msgspec.Meta(gt=_LEAST, lt=_MOST)]
    terms: int


@dataclass(frozen=True, slots=True)
class CalibratedEstimator:
    """U(.) of a device times its calibration factor."""

    estimator: Estimator
    factor: float

    def predict_s(self, blocks: Sequence[Block]) -> FloatArray:
        """Predict the latency of each block, seconds."""
        seconds: FloatArray = self.factor * self.estimator.predict_s(blocks)
        return seconds


def load_calibrated_estimators(
    topology: Topology,
    space: SearchSpace,
    workspace: Workspace,
    warn: Callable[[str], None],
    progress: Progress = no_progress,
) -> tuple[dict[str, CalibratedEstimator], dict[str, str]]:
    """Load each device's U(.) with its calibration, and the origin of its latencies (`jmsnas.origin`).

    Raises EstimatorError where a device has no table, with the command that makes one.
    """
    estimators = load_estimators(topology, space, workspace, 0, progress, warn)
    calibrated = {
        device.name: CalibratedEstimator(
            estimators[device.name], read_factor(workspace, device.table, device.runtime)
        )
        for device in topology.devices
    }
    return calibrated, {name: estimator.origin for name, estimator in estimators.items()}


def calibrate(document: dict[str, Any], topology: Topology, workspace: Workspace) -> dict[str, float]:
    """Update the calibration factors by a deployment's ratios of measured to predicted compute time.

    Emulated terms are left out. Devices that share a table and a runtime share the median of their ratios.
    Returns the factors by table. Raises DeployError for a factor beyond 0.001 to 1000, which is not kept.
    """
    tables = {device.name: _calibrated_table(device.table, device.runtime) for device in topology.devices}
    ratios: dict[str, list[float]] = {}
    for term in document["terms"]:
        if term["kind"] == "compute" and term["ratio"]:
            ratios.setdefault(tables[term["where"]], []).append(float(term["ratio"]))
    factors = {}
    for table, own in ratios.items():
        factors[table] = _factor(workspace, table) * float(np.median(own))
        if not _LEAST < factors[table] < _MOST:
            raise DeployError(
                f"a calibration factor of {factors[table]:.3g} for {table}: expected {_LEAST} to {_MOST}; "
                f"the kept factor is unchanged. Profile it again: jmsnas profile --device {table}"
            )
        content = _Calibration(1, table, factors[table], len(own))
        write_json(_path(workspace, table), asdict(content))
    return factors


def read_factor(workspace: Workspace, table: str, runtime: str = "onnxruntime") -> float:
    """Read the calibration factor of a table; 1 if it has none. Raises InputError."""
    return _factor(workspace, _calibrated_table(table, runtime))


def _calibrated_table(table: str, runtime: str) -> str:
    return table if runtime == "onnxruntime" else f"{table}-{runtime}"


def _factor(workspace: Workspace, table: str) -> float:
    path = _path(workspace, table)
    if not path.exists():
        return 1.0
    remedy = "Delete it, and run jmsnas deploy RUN --calibrate again"
    return read_json(path, _Calibration, InputError, remedy).factor


def _path(workspace: Workspace, table: str) -> Path:
    return workspace.folder / "calibration" / f"{check_name(table)}.json"
