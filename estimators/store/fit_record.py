"""How an estimator was fitted, in a JSON file that a person can read and that is enough to fit it again.

Schema history: 1 (2026-11) first version; 2 (2026-11) residual models of several kinds, one roofline of two,
errors by how near a row was to the table. docs/estimators.md describes every field.
"""

import hashlib
import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jmsnas.errors import EstimatorError, TableError
from jmsnas.estimators.regression.conformal import LEVELS
from jmsnas.estimators.regression.features import FEATURES, RESIDUAL, ROOFLINE
from jmsnas.estimators.regression.model_selection import ModelChoice
from jmsnas.estimators.regression.regressor import LatencyRegressor
from jmsnas.estimators.regression.residual_models import MODELS
from jmsnas.estimators.regression.roofline import ROOFLINE_KINDS
from jmsnas.files import write_json
from jmsnas.profiler.table.latency_table import BlockRow, LatencyTable, RuntimeKey

SCHEMA_VERSION = 2
# A million rows' worth; more is a mistake or an attack.
_MAX_BYTES = 256 << 20
_LIBRARIES = ("jmsnas", "numpy", "scipy", "scikit-learn")


@dataclass(frozen=True, slots=True)
class FitRecord:
    """What, with the table beside it, makes the estimator again.

    Attributes
    ----------
    device, key, simulated
        What the estimator speaks for, and whether any row is simulated.
    seed, choice
        Seed of the search, and what it chose.
    features
        Names of the features, in order; another version's may differ.
    table_sha256
        Digest of the rows it was fitted to.
    rates
        Seconds per unit of each roofline column and the constant, and `lengths` the length scales of the
        Gaussian process in standard deviations of each input: for people, both follow from the rest.
    versions
        Of Python and the libraries it was first fitted with.
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
    """Write down how a fitted regressor came about."""
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


def write_fit_record(path: Path, recipe: FitRecord) -> None:
    """Write a recipe as JSON. Raises StorageError."""
    write_json(path, {"schema_version": SCHEMA_VERSION, **asdict(recipe)})


def read_json_object(path: Path, again: str) -> dict[str, Any]:
    """Read a JSON object; `again` is the command that would make the file anew. Raises EstimatorError."""
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
        document = json.loads(content)
        if not isinstance(document, dict):
            raise ValueError(f"expected an object, got {type(document).__name__}")
    except (ValueError, RecursionError) as error:
        raise EstimatorError(
            f"{path} is not a JSON document of an estimator: {error}. Run: {again}"
        ) from error
    return document


def read_fit_record(path: Path, again: str) -> FitRecord:
    """Read a recipe; `again` is the command that would make it anew.

    Raises
    ------
    EstimatorError
        When it is missing, damaged, of another schema version or of other features.
    """
    document = read_json_object(path, again)
    schema = document.get("schema_version")
    if schema != SCHEMA_VERSION:
        raise EstimatorError(f"{path} has schema {schema}, this version reads {SCHEMA_VERSION}. Run: {again}")
    try:
        recipe = _recipe(document)
    except (KeyError, TypeError, ValueError, OverflowError, TableError) as error:
        raise EstimatorError(f"{path} has a field that is missing or wrong: {error}. Run: {again}") from error
    if recipe.features != FEATURES:
        raise EstimatorError(f"{path} was fitted to features that this version does not make. Run: {again}")
    return recipe


def table_sha256(table: LatencyTable) -> str:
    """Digest of what an estimator rests on: the rows' keys, blocks, latencies and standing, in any order."""
    records = sorted(json.dumps([asdict(row.key), asdict(row.block), _standing(row)]) for row in table.rows)
    return hashlib.sha256("\n".join([table.device, *records]).encode()).hexdigest()


def _standing(row: BlockRow) -> list[str | float | bool]:
    return [
        *(row.kind, row.median_s, row.low_s, row.high_s),
        *(row.ratio, row.ratio_low, row.ratio_high, row.converged),
        row.trust,
    ]


def _recipe(document: Mapping[str, Any]) -> FitRecord:
    key = document["key"]
    return FitRecord(
        device=str(document["device"]),
        key=RuntimeKey(
            str(key["runtime"]),
            int(key["threads"]),
            int(key["batch"]),
            *(str(key[name]) for name in ("dtype", "processor", "layout", "timer")),
        ),
        simulated=bool(document["simulated"]),
        seed=int(document["seed"]),
        choice=_choice(document["choice"]),
        features=tuple(str(name) for name in document["features"]),
        table_sha256=str(document["table_sha256"]),
        rates={str(name): float(rate) for name, rate in document["rates"].items()},
        lengths={str(name): float(length) for name, length in document["lengths"].items()},
        versions={str(name): str(text) for name, text in document["versions"].items()},
    )


def _choice(document: Mapping[str, Any]) -> ModelChoice:
    theta = tuple(float(number) for number in document["theta"])
    if not all(-50 <= number <= 50 for number in theta):
        raise ValueError("theta must be numbers from -50 to 50")
    roofline, share = str(document["roofline"]), float(document["share"])
    residual = _models(document["residual"])
    if roofline not in ROOFLINE_KINDS:
        raise ValueError(f"no such roofline: {roofline}")
    if not 0 < share <= 1:
        raise ValueError(f"share must be more than 0 and at most 1, got {share}")
    # The signal, a length scale an input (the roofline's answer is one), the noise.
    expected = len(RESIDUAL) + 3 if "gaussian_process" in residual else 0
    if len(theta) != expected:
        raise ValueError(f"theta must be {expected} numbers, got {len(theta)}")
    errors = tuple(tuple(sorted(float(error) for error in level)) for level in document["log_errors"])
    if len(errors) != len(LEVELS) or not any(errors):
        raise ValueError(f"log_errors must be {len(LEVELS)} lists, not all of them empty")
    if not all(0 <= error <= 100 for level in errors for error in level):
        raise ValueError("log_errors must be numbers from 0 to 100")
    mapes = tuple((_models(names), float(mape)) for names, mape in document["mapes"])
    return ModelChoice(roofline, residual, share, theta, mapes, errors)


def _models(names: Sequence[object]) -> tuple[str, ...]:
    found = tuple(str(name) for name in names)
    if not set(found) <= set(MODELS):
        raise ValueError(f"no such residual models: {', '.join(found)}")
    return found
