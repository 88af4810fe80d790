"""How an estimator was fitted, in a JSON file that a person can read and that is enough to fit it again.

Schema history: 1 (2026-11) first version. docs/estimators.md describes every field.
"""

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jmsnas.errors import EstimatorError, TableError
from jmsnas.estimators.features import FEATURES, RESIDUAL, ROOFLINE
from jmsnas.estimators.regressor import Choice, LatencyRegressor
from jmsnas.files import write_json
from jmsnas.profiler.table import Key, LatencyTable, Row

SCHEMA_VERSION = 1
# A million rows' worth; more is a mistake or an attack.
_MAX_BYTES = 256 << 20
_LIBRARIES = ("jmsnas", "numpy", "scipy", "scikit-learn")


@dataclass(frozen=True, slots=True)
class Recipe:
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
        Seconds per unit of each roofline column and the constant, and `kernel` the residual's kernel: for
        people, both follow from the rest.
    versions
        Of Python and the libraries it was first fitted with.
    """

    device: str
    key: Key
    simulated: bool
    seed: int
    choice: Choice
    features: tuple[str, ...]
    table_sha256: str
    rates: dict[str, float]
    kernel: str
    versions: dict[str, str]


def make_recipe(
    device: str, key: Key, simulated: bool, regressor: LatencyRegressor, table_sha256: str
) -> Recipe:
    """Write down how a fitted regressor came about."""
    process = regressor.process_
    return Recipe(
        device=device,
        key=key,
        simulated=simulated,
        seed=regressor.seed,
        choice=regressor.choice_,
        features=FEATURES,
        table_sha256=table_sha256,
        rates=dict(zip((*ROOFLINE, "constant_s"), regressor.rates_.tolist(), strict=True)),
        kernel="" if process is None else str(process.kernel_),
        versions={"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
    )


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Write a recipe as JSON. Raises StorageError."""
    write_json(path, {"schema_version": SCHEMA_VERSION, **asdict(recipe)})


def read_document(path: Path, again: str) -> dict[str, Any]:
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


def read_recipe(path: Path, again: str) -> Recipe:
    """Read a recipe; `again` is the command that would make it anew.

    Raises
    ------
    EstimatorError
        When it is missing, damaged, of another schema version or of other features.
    """
    document = read_document(path, again)
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


def _standing(row: Row) -> list[str | float | bool]:
    return [
        *(row.kind, row.median_s, row.low_s, row.high_s),
        *(row.ratio, row.ratio_low, row.ratio_high, row.converged),
        row.trust,
    ]


def _recipe(document: Mapping[str, Any]) -> Recipe:
    key, choice = document["key"], document["choice"]
    numbers = {name: tuple(float(number) for number in choice[name]) for name in ("theta", "log_errors")}
    if not all(-50 <= number <= 50 for number in numbers["theta"]):
        raise ValueError("theta must be numbers from -50 to 50")
    errors = numbers["log_errors"]
    if not errors or not all(0 <= error <= 100 for error in errors):
        raise ValueError("log_errors must be one or more numbers from 0 to 100")
    residual, tried = bool(choice["residual"]), choice["mape_residual"]
    # A constant, a length scale an input, the noise.
    expected = len(RESIDUAL) + 2 if residual else 0
    if len(numbers["theta"]) != expected:
        raise ValueError(f"theta must be {expected} numbers, got {len(numbers['theta'])}")
    return Recipe(
        device=str(document["device"]),
        key=Key(
            str(key["runtime"]),
            int(key["threads"]),
            int(key["batch"]),
            *(str(key[name]) for name in ("dtype", "processor", "layout", "timer")),
        ),
        simulated=bool(document["simulated"]),
        seed=int(document["seed"]),
        choice=Choice(
            residual=residual,
            theta=numbers["theta"],
            log_errors=tuple(sorted(errors)),
            mape_roofline=float(choice["mape_roofline"]),
            mape_residual=None if tried is None else float(tried),
        ),
        features=tuple(str(name) for name in document["features"]),
        table_sha256=str(document["table_sha256"]),
        rates={str(name): float(rate) for name, rate in document["rates"].items()},
        kernel=str(document["kernel"]),
        versions={str(name): str(text) for name, text in document["versions"].items()},
    )
