"""Train a MobileNet like a searched model: on the same images, with the same recipe, epochs and seed."""

from pathlib import Path

import msgspec
import torch

from jmsnas.blocks import build_module
from jmsnas.datasets.splits import DatasetSplits
from jmsnas.errors import InputError
from jmsnas.files import read_json, write_json
from jmsnas.mobilenets import mobilenet
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.search.stages import StageTwo
from jmsnas.nas.supernet.training import accuracy, training_device
from jmsnas.progress import Progress, no_progress
from jmsnas.workspace import Workspace


class _TrainedMobileNet(msgspec.Struct):
    test_accuracy: float
    recipe: dict[str, str | float]


def _recipe(config: SearchConfig) -> dict[str, str | float]:
    keys = ("optimizer", "lr", "batch_size", "lambda1", "seed")
    return {key: getattr(config, key) for key in keys} | {"epochs": config.final_epochs}


def accuracy_path(workspace: Workspace, name: str, dataset: str, config: SearchConfig) -> Path:
    """Path of the accuracy of a MobileNet: `compare/<data set>/<model>-e<epochs>-s<seed>.json`."""
    return workspace.folder / "compare" / dataset / f"{name}-e{config.final_epochs}-s{config.seed}.json"


def known_accuracy(workspace: Workspace, name: str, dataset: str, config: SearchConfig) -> float | None:
    """Read the test accuracy of a MobileNet trained with this recipe, or None. Raises InputError."""
    path = accuracy_path(workspace, name, dataset, config)
    if not path.exists():
        return None
    remedy = "Remove it and run the same command again"
    trained = read_json(path, _TrainedMobileNet, InputError, remedy)
    return trained.test_accuracy if trained.recipe == _recipe(config) else None


def train_mobilenet(
    workspace: Workspace,
    name: str,
    dataset: str,
    splits: DatasetSplits,
    config: SearchConfig,
    progress: Progress = no_progress,
) -> float:
    """Train a MobileNet and write its test accuracy. Raises TrainingError, StorageError."""
    device = training_device(config.train_on)
    torch.set_num_threads(config.threads)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = build_module(mobilenet(name, splits.shape, splits.classes))
    model = model.to(device).to(memory_format=torch.channels_last)
    stage = StageTwo(config, model, splits.train_and_arch, device)
    for epoch in range(config.final_epochs):
        epoch_record = stage.run_epoch()
        progress(epoch + 1, config.final_epochs, f"{name}: {epoch_record.summary}")
    found = accuracy(model, splits.test, device)
    document = {"schema_version": 1, "network": name, "dataset": dataset, "test_accuracy": found}
    write_json(accuracy_path(workspace, name, dataset, config), {**document, "recipe": _recipe(config)})
    return found
