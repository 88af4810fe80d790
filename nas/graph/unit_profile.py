"""The units of one network timed on a host, as a file: `models/<device>/<network>-<size>-<run time>.json`."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from jmsnas.errors import EstimatorError
from jmsnas.files import write_json
from jmsnas.nas.graph.model import Model
from jmsnas.workspace import Workspace, check_name

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """Seconds of each unit: median and its 95 % interval; `digest` names the units they are of.

    `whole_s` is the network measured as one call, beside the sum of its units.
    """

    schema_version: int
    model: str
    device: str
    runtime: str
    threads: int
    digest: str
    median_s: tuple[float, ...]
    low_s: tuple[float, ...]
    high_s: tuple[float, ...]
    whole_s: float
    converged: int
    measured_at: str
    environment: dict[str, str]


def digest(model: Model) -> str:
    """Name the units of a network by what they are and how they hang together."""
    units = "\n".join(f"{unit.name} {unit.inputs} {unit.output_elements}" for unit in model.units)
    return hashlib.sha256(f"{model.input_shape}\n{units}".encode()).hexdigest()[:16]


def profile_path(workspace: Workspace, device: str, model: Model, runtime: str) -> Path:
    """Where the profile of a network on a device lies."""
    size = "x".join(str(length) for length in model.input_shape)
    name = re.sub(r"[^a-z0-9_-]+", "-", Path(model.name).stem.lower()).strip("-_")[:40] or "network"
    return workspace.folder / "models" / check_name(device) / f"{name}-{size}-{runtime}.json"


def write_profile(path: Path, profile: ModelProfile) -> None:
    """Write a profile. Raises StorageError."""
    write_json(path, asdict(profile))


def utc_now() -> str:
    """Today, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_profile(workspace: Workspace, device: str, model: Model, runtime: str) -> ModelProfile | None:
    """Read the profile of a network on a device, or None where there is none.

    Raises
    ------
    EstimatorError
        When it is damaged, or of other units than the network has now.
    """
    path = profile_path(workspace, device, model, runtime)
    if not path.exists():
        return None
    again = f"Run: jmsnas profile --model {model.name} --device {device}"
    try:
        document = json.loads(path.read_bytes())
        if document["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema {document['schema_version']}, this version reads {SCHEMA_VERSION}")
        lists = {key: tuple(float(s) for s in document[key]) for key in ("median_s", "low_s", "high_s")}
        profile = ModelProfile(**{**document, **lists})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EstimatorError(f"{path} is damaged ({type(error).__name__} {error}). {again}") from error
    if profile.digest != digest(model) or len(profile.median_s) != model.N:
        raise EstimatorError(f"{path} is of another version of {model.name}, with other units. {again}")
    return profile
