"""Latencies of a model's units, as a file: `models/<device>/<model>-<size>-<digest>-<runtime>.json`."""

import hashlib
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from jmsnas.errors import EstimatorError
from jmsnas.files import read_json, write_json
from jmsnas.nas.graph.model import Model
from jmsnas.workspace import Workspace, check_name

SCHEMA_VERSION = 2


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """Seconds of each unit: median and its 95 % interval; `digest` identifies the units.

    `whole_s` is the whole model measured as one call.
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


def units_digest(model: Model) -> str:
    """Hash the raw input and the units of a model: all that decides their latency.

    That is names, inputs, attributes, and shapes and dtypes of outputs and weights, not the tensors' names.
    """
    lines = [f"{model.batch} {model.input_shape} {model.input_dtype}"]
    for unit in model.units:
        outputs, weights = (
            [(tensor.shape, tensor.dtype) for tensor in tensors] for tensors in (unit.outputs, unit.weights)
        )
        lines.append(f"{unit.name} {unit.inputs} {unit.attributes} {outputs} {weights}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def profile_path(workspace: Workspace, device: str, model: Model, runtime: str) -> Path:
    """Path of the profile of a model on a device; models of one name have different paths."""
    size = "x".join(str(length) for length in model.input_shape)
    name = re.sub(r"[^a-z0-9_-]+", "-", Path(model.name).stem.lower()).strip("-_")[:40] or "network"
    return (
        workspace.folder
        / "models"
        / check_name(device)
        / f"{name}-{size}-{units_digest(model)[:8]}-{runtime}.json"
    )


def write_profile(path: Path, profile: ModelProfile) -> None:
    """Write a profile. Raises StorageError."""
    write_json(path, asdict(profile))


def read_profile(workspace: Workspace, device: str, model: Model, runtime: str) -> ModelProfile | None:
    """Read the profile of a model on a device, or None where there is none.

    Raises EstimatorError when it is damaged, or of other units than the model has now.
    """
    path = profile_path(workspace, device, model, runtime)
    if not path.exists():
        return None
    again = f"Run: jmsnas profile --model {model.name} --device {device}"
    profile = read_json(path, ModelProfile, EstimatorError, again)
    if profile.schema_version != SCHEMA_VERSION:
        raise EstimatorError(
            f"{path} has schema {profile.schema_version}, this version reads {SCHEMA_VERSION}. {again}"
        )
    if profile.digest != units_digest(model) or len(profile.median_s) != model.N:
        raise EstimatorError(
            f"{path} is of another version of {model.name}, with other units, shapes or dtypes. {again}"
        )
    return profile
