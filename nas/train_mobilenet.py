"""Train a MobileNet as the searched networks were trained: the same images, recipe, epochs and seed."""

import json
from pathlib import Path

import torch

from jmsnas.blocks import build_module
from jmsnas.datasets.splits import DatasetSplits
from jmsnas.errors import InputError
from jmsnas.files import write_json
from jmsnas.mobilenets import mobilenet
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.search.stages import StageTwo
from jmsnas.nas.supernet.training import accuracy, training_device
from jmsnas.progress import Progress, no_progress
from jmsnas.workspace import Workspace


def accuracy_path(workspace: Workspace, name: str, dataset: str, config: SearchConfig) -> Path:
    """Where the accuracy of a MobileNet lies: `compare/<data set>/<network>-e<epochs>-s<seed>.json`."""
    return workspace.folder / "compare" / dataset / f"{name}-e{config.final_epochs}-s{config.seed}.json"


def known_accuracy(workspace: Workspace, name: str, dataset: str, config: SearchConfig) -> float | None:
    """Read the test accuracy of a MobileNet that was trained here, or None. Raises InputError."""
    path = accuracy_path(workspace, name, dataset, config)
    if not path.exists():
        return None
    try:
        document = json.loads(path.read_bytes())
        held = {key: document["recipe"][key] for key in ("optimizer", "lr", "batch_size", "lambda1")}
        asked = {key: getattr(config, key) for key in held}
        return float(document["test_accuracy"]) if held == asked else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}): remove it and run the same command again") from error


def train_mobilenet(
    workspace: Workspace,
    name: str,
    dataset: str,
    splits: DatasetSplits,
    config: SearchConfig,
    progress: Progress = no_progress,
) -> float:
    """Train a MobileNet and keep its test accuracy. Raises TrainingError, StorageError."""
    device = training_device(config.train_on)
    torch.set_num_threads(config.threads)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = build_module(mobilenet(name, splits.shape, splits.classes))
    model = model.to(device).to(memory_format=torch.channels_last)
    stage = StageTwo(config, model, splits.train_and_arch, device)
    for epoch in range(config.final_epochs):
        told = stage.run_epoch()
        progress(epoch + 1, config.final_epochs, f"{name}: {told.words}")
    found = accuracy(model, splits.test, device)
    recipe = {key: getattr(config, key) for key in ("optimizer", "lr", "batch_size", "lambda1", "seed")}
    document = {"schema_version": 1, "network": name, "dataset": dataset, "test_accuracy": found}
    document["recipe"] = {**recipe, "epochs": config.final_epochs}
    write_json(accuracy_path(workspace, name, dataset, config), document)
    return found
