"""A finished search on disk: `config.json`, `log.jsonl`, `result.json`, `weights.safetensors`."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save

from jmsnas.cost import cost
from jmsnas.errors import InputError
from jmsnas.estimators.store.estimator import Estimator
from jmsnas.files import storage_error, write_atomic, write_json
from jmsnas.nas.derivation.derive import DerivedArchitecture
from jmsnas.nas.latency.build_lut import LatencyLUT
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.search.session import SearchResult
from jmsnas.nas.search.stages import EpochRecord
from jmsnas.nas.supernet.distributed import SINGLE_PROCESS, Ranks
from jmsnas.space import Block, SearchSpace
from jmsnas.topology import Topology

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class DatasetOptions:
    """Where a data set's files lie, and how many processes decode photographs."""

    folder: Path = Path("data")
    workers: int = 0


@dataclass(frozen=True, slots=True)
class SearchSetup:
    """What a search ran on: the space, the network, U(.) of each device, the data set by name."""

    space: SearchSpace
    topology: Topology
    estimators: Mapping[str, Estimator]
    lut: LatencyLUT
    dataset: str
    data: DatasetOptions = DatasetOptions()


class RunLog:
    """The log of a run: one JSON line an epoch, appended as it ends; `history` was logged before."""

    def __init__(self, folder: Path, history: Sequence[Mapping[str, Any]] = ()) -> None:
        self.path = folder / "log.jsonl"
        write_atomic(self.path, "".join(map(_line, history)).encode())

    def __call__(self, epoch: EpochRecord) -> None:
        """Append one epoch. Raises StorageError."""
        try:
            with self.path.open("a") as file:
                file.write(_line(asdict(epoch)))
        except OSError as error:
            raise storage_error(self.path, error) from error


def _line(epoch: Mapping[str, Any]) -> str:
    return json.dumps(epoch, allow_nan=False) + "\n"


def run_configuration(
    config: SearchConfig, setting: SearchSetup, ranks: Ranks = SINGLE_PROCESS
) -> dict[str, Any]:
    """Everything a run's result depends on, as `config.json` holds it; of space and latencies a digest."""
    return {
        "schema_version": SCHEMA_VERSION,
        "space": setting.space.name,
        "dataset": setting.dataset,
        "network": setting.topology.name,
        "processes": ranks.size,
        "space_and_latencies": _digest(setting.space, setting.lut),
        **asdict(config),
    }


def claim_folder(folder: Path, asked: Mapping[str, Any], ranks: Ranks = SINGLE_PROCESS) -> bool:
    """Write `config.json` of a run that begins; give whether the run was finished before.

    Raises InputError where the folder holds a run of other settings, which can neither go on nor be replaced.
    """
    path = folder / "config.json"
    if not path.exists():
        ranks.wait()
        if ranks.first:
            write_json(path, asked)
        return False
    try:
        held = json.loads(path.read_bytes())
        other = next((key for key in asked if held.get(key) != asked[key]), None)
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error}): give another --name, or remove {folder}") from error
    if other:
        raise InputError(
            f"run {folder.name} is another search ({other} {held.get(other)}, now {asked[other]}): "
            "give another --name, or the options it had"
        )
    return (folder / "result.json").exists()


def find_unfinished_run(runs: Path, asked: Mapping[str, Any]) -> str | None:
    """Name the newest run that was begun with the same configuration and is not finished."""
    for path in sorted(runs.glob("*/config.json"), key=lambda path: path.stat().st_mtime, reverse=True):
        if not any((path.parent / name).exists() for name in ("result.json", "front.json")):
            try:
                if json.loads(path.read_bytes()) == asked:
                    return path.parent.name
            except (OSError, ValueError):
                continue
    return None


def _digest(*values: Any) -> str:
    """Hash what values say, arrays in full."""
    found = hashlib.sha256()
    for value in values:
        if isinstance(value, np.ndarray):
            found.update(repr((value.shape, value.dtype.str)).encode() + value.tobytes())
        elif is_dataclass(value):
            found.update(_digest(*(getattr(value, part.name) for part in fields(value))).encode())
        elif isinstance(value, tuple):
            found.update(_digest(*value).encode())
        else:
            found.update(repr(value).encode())
    return found.hexdigest()[:16]


def write_result(folder: Path, setting: SearchSetup, result: SearchResult) -> dict[str, Any]:
    """Write the derived network's weights, then `result.json`; gives the document that was written."""
    tensors = {name: tensor.contiguous() for name, tensor in result.model.cpu().state_dict().items()}
    write_atomic(folder / "weights.safetensors", save(tensors, {"jmsnas": version("jmsnas")}))
    document = result_document(folder.name, setting, result)
    write_json(folder / "result.json", document)
    return document


def read_result(folder: Path) -> dict[str, Any]:
    """Read `result.json` of a finished run. Raises InputError."""
    path = folder / "result.json"
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
        schema = document["schema_version"]
    except OSError as error:
        raise InputError(
            f"{folder} holds no finished run ({error.strerror}: result.json). "
            "Run: jmsnas search --topology chain"
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is not the result of a run: {error}") from error
    if schema != SCHEMA_VERSION:
        raise InputError(
            f"{path} has schema {schema}, this version reads {SCHEMA_VERSION}. Run the search again: "
            "jmsnas search --topology chain"
        )
    return document


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Read the epochs of a run."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def result_document(name: str, setting: SearchSetup, result: SearchResult) -> dict[str, Any]:
    """Put everything a reader needs into one JSON document; seconds, bytes, bits per second."""
    lut, space = setting.lut, setting.space
    pairs = zip(result.architecture.candidates, space.layers, strict=True)
    costs = [cost(Block(candidate, layer)) for candidate, layer in pairs]
    return {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "jmsnas": version("jmsnas"),
        "space": {"name": space.name, "layers": [str(layer) for layer in space.layers], "R": space.R},
        "dataset": setting.dataset,
        "network": _network(setting),
        "target": asdict(result.target),
        "expected_latency_s": result.expected_latency_s,
        "derived": {
            **_plan(result.derived, setting),
            "in_band": result.in_band,
            "band": result.band,
            "optimal": result.derived.optimal,
            "gap": result.derived.gap,
        },
        "argmax": _plan(result.argmax, setting),
        "cloud_only": dict(
            zip(("latency_s", "input_bytes"), lut.cloud_only(result.derived.indices), strict=True)
        ),
        "accuracy": {"inherited": result.inherited_accuracy, "test": result.test_accuracy},
        "parameters": sum(c.parameters for c in costs),
        "macs": sum(c.macs for c in costs),
        "probabilities": np.round(result.p_NR, 6).tolist(),
    }


def _plan(derived: DerivedArchitecture, setting: SearchSetup) -> dict[str, Any]:
    terms = setting.lut.terms(derived.indices, derived.placement)
    return {
        "candidates": [setting.space.choices[n][i].name for n, i in enumerate(derived.indices)],
        "cuts": list(derived.placement.cuts),
        "children": [setting.topology.children[k] for k in derived.placement.children],
        "latency_s": derived.latency_s,
        "score": derived.score,
        "terms": [asdict(term) for term in terms],
    }


def _network(setting: SearchSetup) -> dict[str, Any]:
    topology = setting.topology
    return {
        "name": topology.name,
        "input": topology.input_encoding,
        "policy": topology.policy,
        "split": "fixed" if setting.lut.main_path.fixed else "joint",
        "returns": topology.returns,
        "tree": {"root": topology.root, "children": list(topology.children), "fan_out": topology.fan_out},
        "devices": [
            {
                **asdict(device),
                "simulated": setting.estimators[device.name].simulated,
                "origin": setting.estimators[device.name].origin,
                "unseen_mape": setting.estimators[device.name].evaluation.model.mape,
            }
            for device in topology.devices
        ],
        "links": [asdict(link) for link in topology.links],
    }
