"""The smallest search there is: three layers to choose, 160 digits, and what it ended in."""

import dataclasses
import hashlib
import io
from typing import Any

import torch
from roofline_predictor import Roofline

from jmsnas.datasets.digits import digits
from jmsnas.datasets.splits import DatasetSplits, InMemoryImages
from jmsnas.nas.latency.build_lut import build_lut
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.search.session import SearchResult
from jmsnas.nas.supernet.checkpoint import StateDict, serialize_state
from jmsnas.profiler.simulation.roofline import load_simulated_device
from jmsnas.space_file import space_from_toml
from jmsnas.topology import load_topology

TABLE: dict[str, Any] = {
    "name": "tiny",
    "input": [1, 8, 8],
    "classes": 10,
    "candidates": {"kernel_sizes": [3, 5], "expansions": [3], "identity": True},
    "stem": {"channels": 4, "stride": 2},
    "stage": [{"layers": 3, "channels": 4, "stride": 1}],
    "head": {"channels": 8},
}
SPACE = space_from_toml(TABLE, "tiny")
TOPOLOGY = load_topology("chain")
LUT = build_lut(SPACE, TOPOLOGY, {d.name: Roofline(load_simulated_device(d.table)) for d in TOPOLOGY.devices})
CONFIG = SearchConfig(warmup_epochs=1, search_epochs=2, final_epochs=2, batch_size=32, best=2)


def tiny_splits(seed: int = 0) -> DatasetSplits:
    whole = digits(seed)
    parts = {"train": 128, "arch": 96, "test": 64, "train_and_arch": 160}
    cut: dict[str, InMemoryImages] = {}
    for name, count in parts.items():
        images = getattr(whole, name)
        assert isinstance(images, InMemoryImages)
        cut[name] = images.subset(torch.arange(count))
    return dataclasses.replace(whole, **cut)  # type: ignore[arg-type]


def digest(result: SearchResult) -> str:
    """Hash all that a search ended in, the seconds it took apart."""
    weights = b"".join(t.numpy().tobytes() for t in result.model.state_dict().values())
    epochs = [dataclasses.replace(epoch, seconds=0.0) for epoch in result.history]
    found = (
        result.derived,
        epochs,
        result.expected_latency_s,
        result.inherited_accuracy,
        result.test_accuracy,
    )
    return hashlib.sha256(b"".join((result.p_NR.tobytes(), weights, repr(found).encode()))).hexdigest()


def copied(state: StateDict) -> StateDict:
    """A state as it would come back from disk."""
    back: StateDict = torch.load(io.BytesIO(serialize_state(state)), weights_only=True)
    return back
