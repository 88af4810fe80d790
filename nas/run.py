"""A whole search as the command line runs it: estimators, the array, the search, the run folder."""

import dataclasses
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmsnas.datasets.catalog import load_dataset
from jmsnas.errors import NetworkError
from jmsnas.files import make_folder
from jmsnas.nas.config import SearchConfig
from jmsnas.nas.latency_lut import build_lut
from jmsnas.nas.prepare import estimators_for
from jmsnas.nas.run_folder import RunLog, Setting, write_config, write_result
from jmsnas.nas.search import choose_target, search
from jmsnas.network import Network, load_network
from jmsnas.progress import Progress, silent
from jmsnas.space_file import load_space
from jmsnas.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run: where it lies, its `result.json` as a document, and what it ran on."""

    folder: Path
    document: dict[str, Any]
    setting: Setting


def prepare(
    place: Workspace,
    network_name: str,
    space_name: str,
    dataset: str,
    seed: int,
    progress: Progress = silent,
    tell: Callable[[str], None] = warnings.warn,
) -> Setting:
    """Load the space, the network and U(.) of its devices. Raises what is wrong with any of them."""
    space = load_space(space_name, place.spaces)
    network: Network = load_network(network_name, place.networks)
    if network.tree:
        raise NetworkError(f"network {network.name} is a mesh: a chain is expected by --topology chain")
    load_dataset(dataset, space, seed)
    estimators = estimators_for(network, space, place, seed, progress, tell)
    return Setting(space, network, estimators, build_lut(space, network, estimators), dataset)


def run_search(
    place: Workspace,
    name: str,
    setting: Setting,
    config: SearchConfig,
    progress: Progress = silent,
) -> Run:
    """Search and write `runs/<name>`: configuration first, the log as it grows, weights and result last.

    Raises TargetError before any training and before anything is written; TrainingError; StorageError.
    """
    target = choose_target(setting.lut, config.t_const_s)
    config = dataclasses.replace(config, t_const_s=target.t_const_s)
    folder = make_folder(place.run(name))
    write_config(folder, config, setting, setting.network.name)
    splits = load_dataset(setting.dataset, setting.space, config.seed)
    result = search(config, setting.space, setting.lut, splits, RunLog(folder), progress)
    return Run(folder, write_result(folder, setting, result), setting)
