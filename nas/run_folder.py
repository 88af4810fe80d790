"""A finished search on disk: `config.json`, `log.jsonl`, `result.json`, `weights.safetensors`."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save

from jmsnas.cost import cost
from jmsnas.errors import InputError
from jmsnas.estimators.store import Estimator
from jmsnas.files import write_atomic, write_json
from jmsnas.nas.config import SearchConfig
from jmsnas.nas.derive import Derived
from jmsnas.nas.latency_lut import LatencyLUT
from jmsnas.nas.placement import Placement
from jmsnas.nas.search import SearchResult
from jmsnas.nas.stages import Epoch
from jmsnas.network import Network
from jmsnas.space import Block, SearchSpace

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Setting:
    """What a search ran on: the space, the network, U(.) of each device, the data set by name."""

    space: SearchSpace
    network: Network
    estimators: Mapping[str, Estimator]
    lut: LatencyLUT
    dataset: str


class RunLog:
    """The log of a run: one JSON line an epoch, appended as it ends."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log.jsonl"
        write_atomic(self.path, b"")

    def __call__(self, epoch: Epoch) -> None:
        """Append one epoch."""
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(epoch), allow_nan=False) + "\n")


def write_config(folder: Path, config: SearchConfig, setting: Setting, network_name: str) -> None:
    """Write what the run was asked for, before it begins."""
    write_json(
        folder / "config.json",
        {
            "schema_version": SCHEMA_VERSION,
            "space": setting.space.name,
            "dataset": setting.dataset,
            "network": network_name,
            **asdict(config),
        },
    )


def write_result(folder: Path, setting: Setting, result: SearchResult) -> dict[str, Any]:
    """Write the derived network's weights, then `result.json`; gives the document that was written."""
    tensors = {name: tensor.contiguous() for name, tensor in result.network.cpu().state_dict().items()}
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


def cloud_only(setting: Setting) -> Placement:
    """Give the placement that sends the raw input to the last device and runs everything there."""
    return Placement((0,) * (setting.network.M - 1) + (setting.space.N,))


def result_document(name: str, setting: Setting, result: SearchResult) -> dict[str, Any]:
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
            "optimal": result.derived.optimal,
        },
        "argmax": _plan(result.argmax, setting),
        "cloud_only": {
            "latency_s": lut.latency_s(result.derived.indices, cloud_only(setting)),
            "input_bytes": float(lut.sent_LM[0, 0]),
        },
        "accuracy": {"inherited": result.inherited_accuracy, "test": result.test_accuracy},
        "parameters": sum(c.parameters for c in costs),
        "macs": sum(c.macs for c in costs),
        "probabilities": np.round(result.p_NR, 6).tolist(),
    }


def _plan(derived: Derived, setting: Setting) -> dict[str, Any]:
    terms = setting.lut.terms(derived.indices, derived.placement)
    return {
        "candidates": [setting.space.choices[n][i].name for n, i in enumerate(derived.indices)],
        "cuts": list(derived.placement.cuts),
        "latency_s": derived.latency_s,
        "score": derived.score,
        "terms": [asdict(term) for term in terms],
    }


def _network(setting: Setting) -> dict[str, Any]:
    network = setting.network
    return {
        "name": network.name,
        "input": network.input_encoding,
        "policy": network.policy,
        "devices": [
            {
                **asdict(device),
                "simulated": setting.estimators[device.name].simulated,
                "unseen_mape": setting.estimators[device.name].evaluation.model.mape,
            }
            for device in network.devices
        ],
        "links": [asdict(link) for link in network.links],
    }
