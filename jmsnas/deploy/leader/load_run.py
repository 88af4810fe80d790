"""Load a finished run for deployment: trained model, topology, split, test images."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load

from jmsnas.arrays import Float32Array
from jmsnas.blocks import build_module
from jmsnas.datasets.catalog import load_dataset
from jmsnas.errors import InputError, TopologyError
from jmsnas.nas.run_result import SEARCH_AGAIN, read_result
from jmsnas.nas.supernet.supernet import DerivedModel
from jmsnas.space import Block, SearchSpace
from jmsnas.topology import Topology
from jmsnas.workspace import Workspace

_MAX_WEIGHTS_BYTES, _MAX_IMAGES = 1 << 30, 2000


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """A run with its trained model and test images.

    Attributes
    ----------
    name, folder
        Name and folder of the run.
    space, blocks
        Search space, and the block of each layer.
    topology
        Devices and links of the search, or those given instead.
    module
        Trained model, one module for each layer, in evaluation mode.
    pixels, labels
        Test images, (count, channels, height, width), and their classes.
    """

    name: str
    folder: Path
    space: SearchSpace
    blocks: tuple[Block, ...]
    topology: Topology
    module: DerivedModel
    pixels: Float32Array
    labels: NDArray[np.int64]


def load_run(workspace: Workspace, folder: Path) -> TrainedRun:
    """Load a run from its folder.

    Raises InputError when it has no finished run, a file is damaged, or the space has changed since.
    """
    run = read_result(folder)
    space = run.load_space(workspace)
    model = DerivedModel(space, [build_module(block) for block in run.blocks])
    weights = folder / "weights.safetensors"
    try:
        model.load_state_dict(_weights(weights))
    except RuntimeError as error:
        raise InputError(f"{weights} is damaged. {SEARCH_AGAIN}") from error
    pixels, labels = _test_images(run.dataset, space)
    return TrainedRun(
        name=folder.name,
        folder=folder,
        space=space,
        blocks=run.blocks,
        topology=run.topology,
        module=model.eval(),
        pixels=pixels,
        labels=labels,
    )


def _test_images(name: str, space: SearchSpace) -> tuple[Float32Array, NDArray[np.int64]]:
    """Load at most 2,000 test images of a dataset, preprocessed for the model, and their labels."""
    test = load_dataset(name, space, 0).test
    count = min(len(test), _MAX_IMAGES)
    rows = [torch.arange(start, min(start + 256, count)) for start in range(0, count, 256)]
    pixels = torch.cat(list(test.plain(rows))).numpy().astype(np.float32)
    return pixels, test.labels[: len(pixels)].numpy()


def with_tables(topology: Topology, tables: dict[str, str]) -> Topology:
    """Replace the latency tables of devices, by device name."""
    devices = tuple(replace(d, table=tables.get(d.name, d.table)) for d in topology.devices)
    return replace(topology, devices=devices)


def over_topology(run: TrainedRun, topology: Topology) -> TrainedRun:
    """Replace the topology of a run by one of the same kind. Raises TopologyError for another kind."""
    got, expected = _kind(topology), _kind(run.topology)
    if got != expected:
        raise TopologyError(
            f"topology {topology.name} is {got}, run {run.name} was searched for {expected}: expected "
            f"--topology of {expected}, or a run of jmsnas search --topology {topology.name}"
        )
    return replace(run, topology=topology)


def _kind(topology: Topology) -> str:
    return f"a mesh with {len(topology.children)} children" if topology.root else "a chain"


def _weights(path: Path) -> dict[str, torch.Tensor]:
    try:
        size = path.stat().st_size
        if size > _MAX_WEIGHTS_BYTES:
            raise InputError(
                f"{path} has {size} bytes: expected at most {_MAX_WEIGHTS_BYTES}. {SEARCH_AGAIN}"
            )
        return dict(load(path.read_bytes()))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}. {SEARCH_AGAIN}") from error
    except InputError:
        raise
    except Exception as error:  # safetensors' own class is no ValueError
        raise InputError(f"{path} is damaged. {SEARCH_AGAIN}") from error
