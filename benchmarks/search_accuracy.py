"""Accuracy of searched models on Fashion-MNIST, compared with argmax, random models in the band, MobileNetV2.

    python benchmarks/search_accuracy.py --data-dir DIR          3 seeds, chain and mesh: about 2 CPU hours
    python benchmarks/search_accuracy.py --data-dir DIR --check  exit with 1 if a bar is missed
    ... --work FOLDER                                            keep rows there, to continue from them

A row is a topology, a seed and a T_const (the quarters of the feasible range), after one warm-up per topology
and seed. All models of a row - searched, argmax of the same search, 5 random ones with T in the same band,
and MobileNetV2 at the largest width multiplier that meets T_const - are initialised again and trained in the
same way: same images, epochs, batches and optimiser. The budget (`--images`, `--epochs`) is small, so that
accuracies can be compared with each other only. Images are not augmented: in so few steps augmentation costs
4 to 5 points. Devices are SIMULATED.

MobileNetV2 has no branches: for a mesh it is split over topology chain, at the mesh's T_const.

Bars: mean accuracy over seeds rises with the target; the mean of the searched models is above the mean of the
random models in the same band.
"""

import copy
import functools
import io
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from harness import benchmark_parser, finish
from search_rivals import random_networks, scaled_mobilenet
from torch import nn

from jmsnas.datasets.splits import DatasetSplits, ImageSet, InMemoryImages
from jmsnas.files import write_json
from jmsnas.nas.derivation.derive import DerivedArchitecture
from jmsnas.nas.derivation.target import targets_in_range
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.search.run import SearchInputs, load_images, prepare_search
from jmsnas.nas.search.run_folder import DatasetOptions, SearchSetup
from jmsnas.nas.search.search import search, train_shared_epochs
from jmsnas.nas.search.session import Callbacks
from jmsnas.nas.search.stages import StageTwo
from jmsnas.nas.supernet.checkpoint import StateDict, serialize_state
from jmsnas.nas.supernet.subnet import extract_subnet
from jmsnas.nas.supernet.supernet import Supernet
from jmsnas.nas.supernet.training import accuracy
from jmsnas.space import SearchSpace
from jmsnas.workspace import Workspace

Row = dict[str, Any]
CPU = torch.device("cpu")


def cut(splits: DatasetSplits, images: int) -> DatasetSplits:
    """Use the first `images` training images, a quarter of them for the architecture, and all test images."""
    train = splits.train.subset(torch.arange(images - images // 4))
    arch = splits.arch.subset(torch.arange(images // 4))
    both = splits.train.subset(torch.arange(images))
    return replace(
        splits,
        train=without_augmentation(train),
        arch=without_augmentation(arch),
        train_and_arch=without_augmentation(both),
    )


def without_augmentation(images: ImageSet) -> ImageSet:
    """Images without augmentation."""
    assert isinstance(images, InMemoryImages)
    return replace(images, shift=0, flip=False)


def trained(model: nn.Module, splits: DatasetSplits, config: SearchConfig) -> float:
    """Train a model with the common budget, and return its test accuracy."""
    model = model.to(memory_format=torch.channels_last)
    stage = StageTwo(config, model, splits.train_and_arch, CPU)
    for _ in range(config.final_epochs):
        stage.run_epoch()
    return accuracy(model, splits.test, CPU)


def new_model(space: SearchSpace, derived: DerivedArchitecture, seed: int) -> nn.Module:
    """Derived model with newly initialised weights."""
    torch.manual_seed(seed)
    return extract_subnet(Supernet(space), derived)


def shared_warm_up(setup: SearchSetup, splits: DatasetSplits, config: SearchConfig) -> StateDict:
    """State after the warm-up, shared by all targets of a topology and seed."""
    kept: list[bytes] = []
    hooks = Callbacks(save=lambda state: kept.append(serialize_state(state)))
    train_shared_epochs(config, setup.space, setup.lut, splits, config.warmup_epochs, hooks)
    state: StateDict = torch.load(io.BytesIO(kept[-1]), weights_only=True)
    return state


def one_row(
    setup: SearchSetup,
    chain: SearchSetup,
    splits: DatasetSplits,
    config: SearchConfig,
    t_const_s: float,
    warm: Callable[[], StateDict],
) -> Row:
    """Search for a target, and train the found model and all models that it is compared with."""
    seed, space = config.seed, setup.space
    only_search = replace(config, t_const_s=t_const_s, final_epochs=0)
    result = search(only_search, space, setup.lut, splits, Callbacks(saved=copy.deepcopy(warm())))

    def figures(derived: DerivedArchitecture) -> Row:
        test_accuracy = trained(new_model(space, derived, seed), splits, config)
        names = [space.choices[n][i].name for n, i in enumerate(derived.indices)]
        return {"latency_s": derived.latency_s, "accuracy": test_accuracy, "candidates": names}

    row: Row = {
        "seed": seed,
        "t_const_s": t_const_s,
        "searched": figures(result.derived),
        "argmax": figures(result.argmax),
        "random": [figures(derived) for derived in random_networks(setup, result.target, seed)],
    }
    torch.manual_seed(seed)
    found = scaled_mobilenet(chain, t_const_s)
    row["mobilenet_v2"] = found and {
        "width": found[0],
        "latency_s": found[1],
        "accuracy": trained(found[2], splits, config),
    }
    return row


def kept(folder: Path | None, name: str, budget: Row, measure: Callable[[], Row]) -> Row:
    """Row saved in the folder for this budget; otherwise measure and save it."""
    path = folder / f"{name}.json" if folder else None
    if path and path.exists():
        document = json.loads(path.read_bytes())
        if document["budget"] == budget:
            return document["row"]
    began = time.process_time()
    row = measure() | {"cpu_s": time.process_time() - began}
    if path:
        write_json(path, {"budget": budget, "row": row})
    return row


def show(row: Row) -> None:
    t_const_s, searched, argmax = row["t_const_s"], row["searched"], row["argmax"]
    accuracies = [one["accuracy"] for one in row["random"]]
    small = row["mobilenet_v2"]
    mobile = f"{small['accuracy']:.2%} (x{small['width']:.2f})" if small else "none meets it"
    print(
        f"{row['topology']:<6} {row['seed']:>4} {t_const_s * 1e3:>8.3f} {searched['accuracy']:>9.2%} "
        f"{searched['latency_s'] / t_const_s - 1:>+7.1%} {argmax['accuracy']:>8.2%} "
        f"{argmax['latency_s'] / t_const_s - 1:>+7.1%} {mean(accuracies):>8.2%} "
        f"{min(accuracies):>7.2%} {max(accuracies):>7.2%}  {mobile}",
        flush=True,
    )


def missed_by(rows: list[Row]) -> list[str]:
    """List the bars that are missed: accuracy rises with the target, searched above random in each band."""
    missed = []
    for topology in dict.fromkeys(row["topology"] for row in rows):
        levels: dict[int, list[Row]] = {}
        for row in rows:
            if row["topology"] == topology:
                levels.setdefault(row["level"], []).append(row)
        means = {k: mean(row["searched"]["accuracy"] for row in levels[k]) for k in sorted(levels)}
        if list(means.values()) != sorted(means.values()):
            rising = ", ".join(f"{m:.2%}" for m in means.values())
            missed.append(f"{topology}: accuracy {rising} does not rise with the target")
        for k, searched in means.items():
            drawn = mean(one["accuracy"] for row in levels[k] for one in row["random"])
            if searched <= drawn:
                missed.append(f"{topology}, level {k}: searched {searched:.2%} <= random {drawn:.2%}")
    return missed


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="Fashion-MNIST's four files")
    parser.add_argument("--topologies", nargs="+", default=["chain", "mesh"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--images", type=int, default=20_000, help="number of training images")
    parser.add_argument("--epochs", type=int, default=2, help="epochs of training of each model")
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--search", type=int, default=5)
    parser.add_argument("--work", type=Path, help="folder of saved rows, to continue from")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = SearchConfig(
        warmup_epochs=arguments.warmup,
        search_epochs=arguments.search,
        final_epochs=arguments.epochs,
        batch_size=64,
        alpha_lr=0.03,
    )
    rows: list[Row] = []
    budget = {name: getattr(arguments, name) for name in ("images", "epochs", "warmup", "search")}
    print(
        f"space fashion-mnist, SIMULATED devices; {arguments.images} images, {arguments.epochs} epochs each"
    )
    print(
        f"{'':<6} {'seed':>4} {'T_const':>8} {'searched':>9} {'T':>7} {'argmax':>8} {'T':>7} "
        f"{'random':>8} {'min':>7} {'max':>7}  MobileNetV2"
    )
    with tempfile.TemporaryDirectory() as temporary:
        workspace, data = Workspace(Path(temporary)), DatasetOptions(arguments.data_dir)
        setups = {
            name: prepare_search(
                workspace,
                SearchInputs(name, "fashion-mnist", "fashion-mnist", data),
                seed=0,
                warn=lambda text: None,
            )
            for name in dict.fromkeys([*arguments.topologies, "chain"])
        }
        for topology in arguments.topologies:
            setup = setups[topology]
            for seed in range(arguments.seeds):
                splits = cut(load_images(setup, seed), arguments.images)
                seeded = replace(config, seed=seed)
                warm = functools.cache(functools.partial(shared_warm_up, setup, splits, seeded))
                for level, target in enumerate(targets_in_range(setup.lut, arguments.levels), 1):
                    measure = functools.partial(
                        one_row, setup, setups["chain"], splits, seeded, target.t_const_s, warm
                    )
                    row = kept(arguments.work, f"{topology}-{seed}-{level}", budget, measure)
                    rows.append({"topology": topology, "level": level, **row})
                    show(rows[-1])
    cpu_s, missed = sum(row["cpu_s"] for row in rows), missed_by(rows)
    print(f"{cpu_s:.0f} CPU s in all")
    finish(arguments, {"budget": budget, "cpu_s": cpu_s, "rows": rows}, missed)


if __name__ == "__main__":
    main()
