"""Files of a run: `config.json`, `log.jsonl`, `result.json`, `weights.safetensors`."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save

from jmsnas.cost import cost
from jmsnas.errors import InputError, StorageError, TrainingError
from jmsnas.estimators.store.estimator import Estimator
from jmsnas.files import exclusive_lock, read_json, storage_error, write_atomic, write_json
from jmsnas.nas.derivation.derive import DerivedArchitecture
from jmsnas.nas.latency.alternatives import split_alternatives
from jmsnas.nas.latency.build_lut import LatencyLUT
from jmsnas.nas.run_result import (
    SCHEMA_VERSION,
    SEARCH_AGAIN,
    CloudOnly,
    DerivedResult,
    EstimatorSummary,
    PlacedArchitecture,
    RunAccuracy,
    RunResult,
    SpaceSummary,
    decode_json,
)
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.search.session import SearchResult
from jmsnas.nas.search.stages import EpochRecord
from jmsnas.nas.supernet.distributed import SINGLE_PROCESS, Ranks
from jmsnas.space import Block, SearchSpace
from jmsnas.topology import Topology


@dataclass(frozen=True, slots=True)
class DatasetOptions:
    """Folder of a data set's files, and number of processes that decode photographs."""

    folder: Path = Path("data")
    workers: int = 0


@dataclass(frozen=True, slots=True)
class SearchSetup:
    """Inputs of a search: space, topology, U(.) of each device, latency table, name of the data set."""

    space: SearchSpace
    topology: Topology
    estimators: Mapping[str, Estimator]
    lut: LatencyLUT
    dataset: str
    data: DatasetOptions = DatasetOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig(SearchConfig):
    """Everything the result of a run depends on, as in `config.json`; a digest of space and latencies."""

    schema_version: int
    space: str
    dataset: str
    topology: str
    processes: int
    space_and_latencies: str


class RunLog:
    """Log of a run: a JSON line per epoch, appended when it ends; `history` is written first."""

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
    config: SearchConfig, setup: SearchSetup, ranks: Ranks = SINGLE_PROCESS
) -> dict[str, Any]:
    """Collect everything the result of a run depends on, the content of `config.json` (see `RunConfig`)."""
    return {
        "schema_version": SCHEMA_VERSION,
        "space": setup.space.name,
        "dataset": setup.dataset,
        "topology": setup.topology.name,
        "processes": ranks.size,
        "space_and_latencies": _digest(setup.space, setup.lut),
        **asdict(config),
    }


def is_finished(folder: Path, config: Mapping[str, Any]) -> bool:
    """Return whether a folder holds a finished run of a config.

    Raises InputError where the folder holds a run of another config, which can neither be resumed nor
    replaced.
    """
    path = folder / "config.json"
    if not path.exists():
        return False
    saved = read_json(path, dict[str, Any], InputError, f"Give another --name, or remove {folder}")
    other = next((key for key in config if saved.get(key) != config[key]), None)
    if other:
        raise InputError(
            f"run {folder.name} is another search ({other} {saved.get(other)}, now {config[other]}): "
            "give another --name, or the options of that run"
        )
    return (folder / "result.json").exists()


def claim_folder(folder: Path, config: Mapping[str, Any], ranks: Ranks = SINGLE_PROCESS) -> bool:
    """Write `config.json` of a new run; return whether the folder holds a finished run. See `is_finished`."""
    finished, path = is_finished(folder, config), folder / "config.json"
    if not path.exists():
        ranks.wait()
        if ranks.first:
            write_json(path, config)
    return finished


@contextmanager
def run_lock(folder: Path, ranks: Ranks = SINGLE_PROCESS) -> Iterator[Callable[[], None]]:
    """Hold the lock of a run folder, so that one search at a time writes to it.

    Yields a function to call before each write: it raises StorageError where the folder was moved or removed
    after the lock was taken. Raises TrainingError at once where another process holds the lock.
    """
    if not ranks.first:
        yield lambda: None
        return

    def busy(holder: str) -> TrainingError:
        return TrainingError(
            f"another search (process {holder}) is running in {folder}: wait until it ends, "
            "or give another --name"
        )

    path = folder / ".lock"
    with exclusive_lock(path, busy) as file:

        def check_folder() -> None:
            if not (path.exists() and os.path.samestat(os.stat(path), os.fstat(file))):
                raise StorageError(
                    f"{folder} was moved or removed while the search was running: move it back, then run the "
                    "same command to resume"
                )

        yield check_folder


def find_unfinished_run(runs: Path, config: Mapping[str, Any]) -> str | None:
    """Find the name of the newest unfinished run of the same config."""
    for path in sorted(runs.glob("*/config.json"), key=lambda path: path.stat().st_mtime, reverse=True):
        if not any((path.parent / name).exists() for name in ("result.json", "front.json")):
            with suppress(InputError):
                if read_json(path, dict[str, Any], InputError, "") == config:
                    return path.parent.name
    return None


def _digest(*values: Any) -> str:
    """Hash dataclasses, tuples, arrays and plain values by their content."""
    digest = hashlib.sha256()
    for value in values:
        if isinstance(value, np.ndarray):
            digest.update(repr((value.shape, value.dtype.str)).encode() + value.tobytes())
        elif is_dataclass(value):
            digest.update(_digest(*(getattr(value, part.name) for part in fields(value))).encode())
        elif isinstance(value, tuple):
            digest.update(_digest(*value).encode())
        else:
            digest.update(repr(value).encode())
    return digest.hexdigest()[:16]


def write_result(folder: Path, setup: SearchSetup, result: SearchResult) -> None:
    """Write the weights of the derived model, then `result.json`. Raises StorageError."""
    tensors = {name: tensor.contiguous() for name, tensor in result.model.cpu().state_dict().items()}
    write_atomic(folder / "weights.safetensors", save(tensors, {"jmsnas": version("jmsnas")}))
    write_json(folder / "result.json", run_result(folder, setup, result).document)


def read_config(folder: Path) -> RunConfig:
    """Read `config.json` of a run. Raises InputError."""
    path = folder / "config.json"
    return decode_json(_content(path), RunConfig, path)


def read_log(folder: Path) -> tuple[EpochRecord, ...]:
    """Read `log.jsonl` of a run, epoch by epoch. Raises InputError."""
    path = folder / "log.jsonl"
    return tuple(decode_json(line, EpochRecord, path) for line in _content(path).splitlines())


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}. {SEARCH_AGAIN}") from error


def run_result(folder: Path, setup: SearchSetup, result: SearchResult) -> RunResult:
    """Make the record of a finished search that `result.json` holds."""
    lut, space, derived = setup.lut, setup.space, result.derived
    pairs = zip(result.architecture.candidates, space.layers, strict=True)
    costs = [cost(Block(candidate, layer)) for candidate, layer in pairs]
    estimators = {
        name: EstimatorSummary(estimator.origin, estimator.evaluation.model.mape)
        for name, estimator in ((d.name, setup.estimators[d.name]) for d in setup.topology.devices)
    }
    return RunResult(
        schema_version=SCHEMA_VERSION,
        name=folder.name,
        jmsnas=version("jmsnas"),
        space=SpaceSummary(space.name, tuple(str(layer) for layer in space.layers), space.R),
        dataset=setup.dataset,
        topology=setup.topology,
        split="fixed" if lut.main_path.fixed else "joint",
        estimators=estimators,
        target=result.target,
        expected_latency_s=result.expected_latency_s,
        derived=DerivedResult(
            **_placed(derived, setup),
            in_band=result.in_band,
            band=result.band,
            optimal=derived.optimal,
            gap=derived.gap,
        ),
        argmax=PlacedArchitecture(**_placed(result.argmax, setup)),
        cloud_only=CloudOnly(*lut.cloud_only(derived.indices)),
        accuracy=RunAccuracy(result.inherited_accuracy, result.test_accuracy),
        parameters=sum(c.parameters for c in costs),
        macs=sum(c.macs for c in costs),
        probabilities=tuple(map(tuple, np.round(result.p_NR, 6).tolist())),
        alternatives=split_alternatives(lut, derived.indices),
        folder=folder,
    )


def _placed(derived: DerivedArchitecture, setup: SearchSetup) -> dict[str, Any]:
    return {
        "candidates": tuple(setup.space.choices[n][i].name for n, i in enumerate(derived.indices)),
        "cuts": derived.placement.cuts,
        "children": tuple(setup.topology.children[k] for k in derived.placement.children),
        "latency_s": derived.latency_s,
        "score": derived.score,
        "terms": setup.lut.terms(derived.indices, derived.placement),
    }
