"""A finished run, ready to be deployed: its network with its weights, its devices, its images."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load

from jmsnas.blocks import build_module
from jmsnas.datasets.catalog import load_dataset
from jmsnas.device import Device
from jmsnas.errors import InputError
from jmsnas.nas.search.run_folder import read_result
from jmsnas.nas.supernet.supernet import DerivedModel
from jmsnas.space import Block, Candidate, SearchSpace
from jmsnas.space_file import load_space
from jmsnas.topology import Link, Topology
from jmsnas.workspace import Workspace

_AGAIN = "Run the search again: jmsnas search --topology chain"
_MAX_WEIGHTS_BYTES, _MOST_IMAGES = 1 << 30, 2000


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """What was searched, trained and split.

    Attributes
    ----------
    name, folder
        Of the run.
    space, blocks
        Where it was searched, and what each layer became.
    network
        Devices and links it was searched for.
    module
        The trained network, one module a layer, in evaluation mode.
    pixels, labels
        Images it never saw, (count, channels, height, width), and their classes.
    cuts
        The split it was derived with.
    """

    name: str
    folder: Path
    space: SearchSpace
    blocks: tuple[Block, ...]
    topology: Topology
    module: DerivedModel
    pixels: NDArray[np.float32]
    labels: NDArray[np.int64]
    cuts: tuple[int, ...]


def load_run(workspace: Workspace, folder: Path) -> TrainedRun:
    """Load a run's folder.

    Raises
    ------
    InputError
        When it holds no finished run, a file is damaged, or its space has changed.
    """
    document = read_result(folder)
    try:
        topology = _topology(document["network"])
        space = load_space(str(document["space"]["name"]), workspace.spaces, len(topology.children))
        if [str(layer) for layer in space.layers] != document["space"]["layers"]:
            raise InputError(f"space {space.name} has changed since the run {folder.name}. {_AGAIN}")
        names = document["derived"]["candidates"]
        pairs = zip(names, space.layers, strict=True)
        blocks = tuple(Block(Candidate.parse(name), layer) for name, layer in pairs)
        module = DerivedModel(space, [build_module(block) for block in blocks])
        module.load_state_dict(_weights(folder / "weights.safetensors"))
        pixels, labels = _test_images(str(document["dataset"]), space)
        cuts = tuple(int(cut) for cut in document["derived"]["cuts"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{folder / 'result.json'} is damaged ({type(error).__name__}). {_AGAIN}") from error
    return TrainedRun(folder.name, folder, space, blocks, topology, module.eval(), pixels, labels, cuts)


def _test_images(name: str, space: SearchSpace) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images of a data set that no run was trained on, at most 2,000, as a network takes them."""
    test = load_dataset(name, space, 0).test
    count = min(len(test), _MOST_IMAGES)
    rows = [torch.arange(start, min(start + 256, count)) for start in range(0, count, 256)]
    pixels = torch.cat(list(test.plain(rows))).numpy().astype(np.float32)
    return pixels, test.labels[: len(pixels)].numpy()


def with_tables(topology: Topology, tables: dict[str, str]) -> Topology:
    """Have other latency tables speak for some devices, by their names."""
    devices = tuple(replace(d, table=tables.get(d.name, d.table)) for d in topology.devices)
    return replace(topology, devices=devices)


def _weights(path: Path) -> dict[str, torch.Tensor]:
    try:
        size = path.stat().st_size
        if size > _MAX_WEIGHTS_BYTES:
            raise InputError(f"{path} has {size} bytes: expected at most {_MAX_WEIGHTS_BYTES}. {_AGAIN}")
        return dict(load(path.read_bytes()))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}. {_AGAIN}") from error
    except InputError:
        raise
    except Exception as error:  # safetensors' own class is no ValueError
        raise InputError(f"{path} is damaged. {_AGAIN}") from error


def _topology(entry: dict[str, Any]) -> Topology:
    devices = tuple(
        Device(**{part.name: device[part.name] for part in fields(Device) if part.name in device})
        for device in entry["devices"]
    )
    links = tuple(Link(**link) for link in entry["links"])
    # A device that sends to several is the root of a tree.
    targets: dict[str, list[str]] = {}
    for link in links:
        targets.setdefault(link.source, []).append(link.target)
    root = next((source for source, found in targets.items() if len(found) > 1), "")
    return Topology(
        name=str(entry["name"]),
        devices=devices,
        links=links,
        root=root,
        children=tuple(targets[root]) if root else (),
        input_encoding=str(entry["input"]),
        policy=str(entry["policy"]),
    )
