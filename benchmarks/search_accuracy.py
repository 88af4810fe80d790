"""Accuracy of searched networks on Fashion-MNIST, beside argmax, random networks in the band, MobileNetV2.

    python benchmarks/search_accuracy.py --data-dir DIR          3 seeds, chain and mesh: about 2 CPU hours
    python benchmarks/search_accuracy.py --data-dir DIR --check  exit 1 naming each figure that falls short

A row is a topology, a seed and a T_const (the quarters of the feasible range), after one warm-up a topology
and seed. Every network of a row - searched, argmax of the same search, 5 random ones whose T lies in the same
band, MobileNetV2 at the greatest width multiplier that meets T_const - then begins anew and is trained alike:
the same images, epochs, batches, optimiser. The budget is what `--images` and `--epochs` say; it is small, so
accuracies are those of short trainings, to compare with each other only. Devices are SIMULATED.

MobileNetV2 has no branches: beside a mesh it is split over network chain, at the mesh's T_const.

Shown where it holds: accuracy, mean over seeds, rises with the target; the mean searched network is above the
mean random one of its band.
"""

import argparse
import copy
import io
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from torch import nn

from jmsnas.blocks import build
from jmsnas.datasets.draws import drawn_from
from jmsnas.datasets.splits import Splits
from jmsnas.errors import SpaceError
from jmsnas.files import write_json
from jmsnas.mobilenets import mobilenet
from jmsnas.nas.beginning import begin_alike
from jmsnas.nas.checkpoint import State, state_bytes
from jmsnas.nas.config import SearchConfig
from jmsnas.nas.derive import Derived, argmax_network
from jmsnas.nas.inherit import inherited
from jmsnas.nas.latency_lut import build_lut
from jmsnas.nas.run import load_dataset_of, prepare
from jmsnas.nas.run_folder import Data, Setting
from jmsnas.nas.search import begin_search, search
from jmsnas.nas.session import Hooks
from jmsnas.nas.stages import StageTwo
from jmsnas.nas.supernet import Supernet
from jmsnas.nas.target import Band, Target, derive_for, targets_between
from jmsnas.nas.training import accuracy
from jmsnas.profiler.environment import describe_host
from jmsnas.space import SearchSpace
from jmsnas.workspace import Workspace

RANDOM, BAND, CPU = 5, 0.03, torch.device("cpu")


def cut(splits: Splits, images: int) -> Splits:
    """The first `images` of the training images, a quarter of them for the architecture; all test images."""
    train = splits.train.subset(torch.arange(images - images // 4))
    arch = splits.arch.subset(torch.arange(images // 4))
    both = splits.train.subset(torch.arange(images))
    return replace(splits, train=train, arch=arch, train_and_arch=both)


def trained(network: nn.Module, splits: Splits, config: SearchConfig) -> float:
    """Test accuracy of a network after the training that all of them get."""
    network = network.to(memory_format=torch.channels_last)
    stage = StageTwo(config, network, splits.train_and_arch, CPU)
    for _ in range(config.final_epochs):
        stage.run_epoch()
    return accuracy(network, splits.test, CPU)


def begun(space: SearchSpace, derived: Derived, seed: int) -> nn.Module:
    """The derived network with weights of its own."""
    torch.manual_seed(seed)
    return inherited(Supernet(space), derived)


def random_networks(setting: Setting, target: Target, seed: int) -> list[Derived]:
    """Networks in the band: the likeliest under probabilities that are drawn at random themselves."""
    draw = np.random.default_rng(drawn_from(seed, f"random networks at {target.t_const_s}"))
    found: list[Derived] = []
    while len(found) < RANDOM:
        p_NR = draw.exponential(size=setting.lut.mask_NR.shape) * setting.lut.mask_NR
        networks, band = derive_for(
            p_NR / p_NR.sum(axis=1, keepdims=True), setting.lut, target, BAND, 1, 5000
        )
        found += networks if band is Band.HOLDS else []
    return found


def scaled_mobilenet(setting: Setting, t_const_s: float) -> tuple[float, float, nn.Module] | None:
    """MobileNetV2 at the greatest width whose best split over the chain meets T_const: width, T, module."""
    space, best = setting.space, None
    for width in np.arange(0.05, 2.0, 0.05).tolist():
        try:
            part = mobilenet("mobilenet_v2", space.input_shape, space.classes, width)
        except SpaceError:
            continue
        layers = tuple(block.layer for block in part.blocks)
        choices = tuple((block.candidate,) for block in part.blocks)
        fixed = replace(space, name="mobilenet_v2", layers=layers, choices=choices)
        lut = build_lut(fixed, setting.network, setting.estimators)
        t_s = argmax_network(lut.mask_NR * 1.0, lut).latency_s
        if t_s <= t_const_s:
            best = (width, t_s, part)
    if best is None:
        return None
    module = build(best[2])
    for block in module.children():
        begin_alike(block, torch.Generator().manual_seed(0))
    return best[0], best[1], module


def shared_warm_up(setting: Setting, splits: Splits, config: SearchConfig) -> State:
    """The state after the warm-up, which all targets of a topology and seed begin with."""
    kept: list[bytes] = []
    hooks = Hooks(save=lambda state: kept.append(state_bytes(state)))
    begin_search(config, setting.space, setting.lut, splits, config.warmup_epochs, hooks)
    state: State = torch.load(io.BytesIO(kept[-1]), weights_only=True)
    return state


def one_row(
    setting: Setting, chain: Setting, splits: Splits, config: SearchConfig, t_const_s: float, warm: State
) -> dict[str, Any]:
    """Search for a target, and train all that it is compared with."""
    seed, space = config.seed, setting.space
    only_search = replace(config, t_const_s=t_const_s, final_epochs=0)
    result = search(only_search, space, setting.lut, splits, Hooks(saved=copy.deepcopy(warm)))

    def figures(derived: Derived) -> dict[str, float]:
        right = trained(begun(space, derived, seed), splits, config)
        return {"latency_s": derived.latency_s, "accuracy": right}

    row: dict[str, Any] = {
        "seed": seed,
        "t_const_s": t_const_s,
        "searched": figures(result.derived),
        "argmax": figures(result.argmax),
        "random": [figures(derived) for derived in random_networks(setting, result.target, seed)],
    }
    torch.manual_seed(seed)
    found = scaled_mobilenet(chain, t_const_s)
    row["mobilenet_v2"] = found and {
        "width": found[0],
        "latency_s": found[1],
        "accuracy": trained(found[2], splits, config),
    }
    return row


def show(row: dict[str, Any]) -> None:
    t_const_s, searched, argmax = row["t_const_s"], row["searched"], row["argmax"]
    right = [one["accuracy"] for one in row["random"]]
    small = row["mobilenet_v2"]
    mobile = f"{small['accuracy']:.2%} (x{small['width']:.2f})" if small else "none so fast"
    print(
        f"{row['topology']:<6} {row['seed']:>4} {t_const_s * 1e3:>8.3f} {searched['accuracy']:>9.2%} "
        f"{searched['latency_s'] / t_const_s - 1:>+7.1%} {argmax['accuracy']:>8.2%} "
        f"{argmax['latency_s'] / t_const_s - 1:>+7.1%} {mean(right):>8.2%} "
        f"{min(right):>7.2%} {max(right):>7.2%}  {mobile}",
        flush=True,
    )


def missed_by(rows: list[dict[str, Any]]) -> list[str]:
    """Name what does not hold: accuracy that rises with the target, searched above random in each band."""
    missed = []
    for topology in dict.fromkeys(row["topology"] for row in rows):
        levels: dict[int, list[dict[str, Any]]] = {}
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, required=True, help="Fashion-MNIST's four files")
    parser.add_argument("--networks", nargs="+", default=["chain", "mesh"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--images", type=int, default=8000, help="of the training images")
    parser.add_argument("--epochs", type=int, default=3, help="of the training that every network gets")
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--search", type=int, default=4)
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--check", action="store_true", help="exit 1 where a figure falls short")
    given = parser.parse_args()
    torch.set_num_threads(1)
    config = SearchConfig(
        warmup_epochs=given.warmup,
        search_epochs=given.search,
        final_epochs=given.epochs,
        batch_size=128,
        alpha_lr=0.03,
    )
    rows: list[dict[str, Any]] = []
    began = time.process_time()
    print(f"space fashion-mnist, SIMULATED devices; {given.images} images, {given.epochs} epochs each")
    print(
        f"{'':<6} {'seed':>4} {'T_const':>8} {'searched':>9} {'T':>7} {'argmax':>8} {'T':>7} "
        f"{'random':>8} {'least':>7} {'most':>7}  MobileNetV2"
    )
    with tempfile.TemporaryDirectory() as temporary:
        place, data = Workspace(Path(temporary)), Data(given.data_dir)
        settings = {
            name: prepare(place, name, "fashion-mnist", "fashion-mnist", 0, tell=lambda text: None, data=data)
            for name in dict.fromkeys([*given.networks, "chain"])
        }
        for network in given.networks:
            setting = settings[network]
            for seed in range(given.seeds):
                splits = cut(load_dataset_of(setting, seed), given.images)
                seeded = replace(config, seed=seed)
                warm = shared_warm_up(setting, splits, seeded)
                for level, t_const_s in enumerate(targets_between(setting.lut, given.levels), 1):
                    row = one_row(setting, settings["chain"], splits, seeded, t_const_s, warm)
                    rows.append({"topology": network, "level": level, **row})
                    show(rows[-1])
    cpu_s, missed = time.process_time() - began, missed_by(rows)
    print(f"{cpu_s:.0f} CPU s in all")
    if given.json:
        budget = {"images": given.images, "epochs": given.epochs, "cpu_s": cpu_s}
        write_json(given.json, {"environment": describe_host(), **budget, "rows": rows})
    for line in missed:
        print(f"MISSED {line}")
    if given.check and missed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
