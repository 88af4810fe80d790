"""The tiny search as a setup of its own workspace: estimators stand for themselves, nothing is fitted."""

from pathlib import Path
from typing import Any, cast

import pytest
from tiny_search import LUT, SPACE, TOPOLOGY, tiny_splits

from jmsnas.datasets.splits import DatasetSplits
from jmsnas.nas.search.run_folder import SearchSetup
from jmsnas.topology import Topology


class _Model:
    mape = 0.05


class _Evaluation:
    model = _Model()


class _Rooflines:
    """What a run folder asks of an estimator."""

    simulated, origin, evaluation = True, "simulated", _Evaluation()


def rooflines(topology: Topology) -> Any:
    """Stand for the estimators of a network's devices, where a run folder asks."""
    return cast(Any, {device.name: _Rooflines() for device in topology.devices})


def use_tiny_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let searches load the tiny images in place of the whole data set."""

    def load(name: str, space: object, seed: int, folder: Path, workers: int) -> DatasetSplits:
        return tiny_splits(seed)

    monkeypatch.setattr("jmsnas.nas.search.run.load_dataset", load)


def tiny_search_setup(monkeypatch: pytest.MonkeyPatch) -> SearchSetup:
    """A setup whose images are the tiny ones."""
    use_tiny_images(monkeypatch)
    return SearchSetup(SPACE, TOPOLOGY, rooflines(TOPOLOGY), LUT, "digits")
