"""JSON record of how an estimator was fitted, enough to fit it again to its table.

Schema history: 1 (2026-11) first version; 2 (2026-11) residual models of several kinds, one roofline of two,
errors by distance from the training rows. docs/estimators.md describes every field.
"""

import hashlib
import json
import math
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from jmsnas.errors import EstimatorError, TableError
from jmsnas.estimators.regression.conformal import LEVELS
from jmsnas.estimators.regression.features import FEATURES, RESIDUAL, ROOFLINE
from jmsnas.estimators.regression.model_selection import ModelChoice
from jmsnas.estimators.regression.regressor import LatencyRegressor
from jmsnas.estimators.regression.residual_models import MODELS
from jmsnas.estimators.regression.roofline import ROOFLINE_KINDS
from jmsnas.files import write_json
from jmsnas.profiler.table.latency_table import LatencyTable, RuntimeKey

SCHEMA_VERSION = 2
# Enough for a million rows; more is a mistake or an attack.
_MAX_BYTES = 256 << 20
T = TypeVar("T")
_LIBRARIES = ("jmsnas", "numpy", "scipy", "scikit-learn")


@dataclass(frozen=True, slots=True)
class _Schema:
    schema_version: Any = None


@dataclass(frozen=True, slots=True)
class FitRecord:
    """Settings and results of a fit that, with the table, reproduce the estimator.

    Attributes
    ----------
    device, key, simulated
        Device and key of the estimator, and whether any row is simulated.
    seed, choice
        Seed and result of model selection.
    features
        Names of the features, in order; other versions may have others.
    table_sha256
        Digest of the rows it was fitted to.
    rates, lengths
        Seconds per unit of each roofline column and the constant; length scales of the Gaussian process in
        standard deviations of each input. For information: both follow from the other fields.
    versions
        Versions of Python and of libraries at the first fit.
    """

    device: str
    key: RuntimeKey
    simulated: bool
    seed: int
    choice: ModelChoice
    features: tuple[str, ...]
    table_sha256: str
    rates: dict[str, float]
    lengths: dict[str, float]
    versions: dict[str, str]


def make_fit_record(
    device: str, key: RuntimeKey, simulated: bool, regressor: LatencyRegressor, table_sha256: str
) -> FitRecord:
    """Make the record of a fitted regressor."""
    choice = regressor.choice_
    lengths = (math.exp(theta) for theta in choice.theta[1:-1])
    return FitRecord(
        device=device,
        key=key,
        simulated=simulated,
        seed=regressor.seed,
        choice=choice,
        features=FEATURES,
        table_sha256=table_sha256,
        rates=dict(zip((*ROOFLINE, "constant_s"), regressor.fit_.rates.tolist(), strict=True)),
        lengths=dict(zip((*RESIDUAL, "log_roofline"), lengths, strict=False)),
        versions={"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
    )


def write_fit_record(path: Path, record: FitRecord) -> None:
    """Write a fit record as JSON; raises StorageError."""
    write_json(path, {"schema_version": SCHEMA_VERSION, **asdict(record)})


def read_json(path: Path, of: type[T], again: str) -> T:
    """Decode a JSON file of an estimator into a dataclass, strictly.

    `again` is the command that writes it anew, for messages. Raises EstimatorError when it is missing, cannot
    be read, is too large, or does not fit the dataclass.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise EstimatorError(
            f"no estimator in {path.parent}: {path.name} is missing. Run: {again}"
        ) from error
    except OSError as error:
        raise EstimatorError(f"cannot read {path}: {error.strerror or error}. Run: {again}") from error
    try:
        if len(content) > _MAX_BYTES:
            raise ValueError(f"it is larger than {_MAX_BYTES} bytes")
        return msgspec.json.decode(content, type=of)
    except (msgspec.ValidationError, TableError) as error:
        raise EstimatorError(f"{path} has a field that is missing or wrong: {error}. Run: {again}") from error
    except (ValueError, RecursionError) as error:
        raise EstimatorError(
            f"{path} is not a JSON document of an estimator: {error}. Run: {again}"
        ) from error


def read_fit_record(path: Path, again: str) -> FitRecord:
    """Read a fit record; `again` is the command that writes it anew.

    Raises EstimatorError when it is missing, damaged, of another schema version or of other features.
    """
    schema = read_json(path, _Schema, again).schema_version
    if schema != SCHEMA_VERSION:
        raise EstimatorError(f"{path} has schema {schema}, this version reads {SCHEMA_VERSION}. Run: {again}")
    record = read_json(path, FitRecord, again)
    try:
        _check_choice(record.choice)
    except ValueError as error:
        raise EstimatorError(f"{path} has a field that is missing or wrong: {error}. Run: {again}") from error
    if record.features != FEATURES:
        raise EstimatorError(f"{path} was fitted to features that this version does not make. Run: {again}")
    return record


def table_sha256(table: LatencyTable) -> str:
    """Compute the digest of the keys, blocks, latencies and trust of a table's rows, in any order."""
    latency = attrgetter(
        *("kind", "median_s", "low_s", "high_s", "ratio", "ratio_low", "ratio_high", "converged", "trust")
    )
    records = sorted(json.dumps([asdict(row.key), asdict(row.block), latency(row)]) for row in table.rows)
    return hashlib.sha256("\n".join([table.device, *records]).encode()).hexdigest()


def _check_choice(choice: ModelChoice) -> None:
    """Raise ValueError for values that no model selection returns."""
    if not all(-50 <= number <= 50 for number in choice.theta):
        raise ValueError("theta must be numbers from -50 to 50")
    if choice.roofline not in ROOFLINE_KINDS:
        raise ValueError(f"no such roofline: {choice.roofline}")
    if not 0 < choice.share <= 1:
        raise ValueError(f"share must be more than 0 and at most 1, got {choice.share}")
    for names in (choice.residual, *(names for names, _ in choice.mapes)):
        if not set(names) <= set(MODELS):
            raise ValueError(f"no such residual models: {', '.join(names)}")
    # The signal, a length scale per input (the roofline's prediction is one), the noise.
    expected = len(RESIDUAL) + 3 if "gaussian_process" in choice.residual else 0
    if len(choice.theta) != expected:
        raise ValueError(f"theta must be {expected} numbers, got {len(choice.theta)}")
    if len(choice.log_errors) != len(LEVELS) or not any(choice.log_errors):
        raise ValueError(f"log_errors must be {len(LEVELS)} lists, not all of them empty")
    for level in choice.log_errors:
        if list(level) != sorted(level) or not all(0 <= error <= 100 for error in level):
            raise ValueError("log_errors must be sorted numbers from 0 to 100")
