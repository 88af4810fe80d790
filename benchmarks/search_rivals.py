"""Baselines of searched models: random models in the same latency band, and scaled MobileNetV2."""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from jmsnas.blocks import build_module
from jmsnas.datasets.seeding import derive_seed
from jmsnas.errors import SpaceError
from jmsnas.mobilenets import mobilenet
from jmsnas.nas.derivation.derive import DerivedArchitecture, argmax_architecture
from jmsnas.nas.derivation.target import BandStatus, LatencyTarget, derive_for_target
from jmsnas.nas.latency.build_lut import build_lut
from jmsnas.nas.search.run_folder import SearchSetup
from jmsnas.nas.supernet.initialisation import initialise_as_identity

RANDOM, BAND = 5, 0.03


def random_networks(setup: SearchSetup, target: LatencyTarget, seed: int) -> list[DerivedArchitecture]:
    """Models in the band of the target, each the most likely under randomly drawn probabilities."""
    draw = np.random.default_rng(derive_seed(seed, f"random networks at {target.t_const_s}"))
    found: list[DerivedArchitecture] = []
    while len(found) < RANDOM:
        p_NR = draw.exponential(size=setup.lut.mask_NR.shape) * setup.lut.mask_NR
        networks, band = derive_for_target(
            p_NR / p_NR.sum(axis=1, keepdims=True), setup.lut, target, BAND, 1, 5000
        )
        found += networks if band is BandStatus.HOLDS else []
    return found


def scaled_mobilenet(setup: SearchSetup, t_const_s: float) -> tuple[float, float, nn.Module] | None:
    """MobileNetV2 at the largest width whose best split meets T_const: (width, T, module), or None."""
    space, best = setup.space, None
    for width in np.arange(0.05, 2.0, 0.05).tolist():
        try:
            part = mobilenet("mobilenet_v2", space.input_shape, space.classes, width)
        except SpaceError:
            continue
        layers = tuple(block.layer for block in part.blocks)
        choices = tuple((block.candidate,) for block in part.blocks)
        fixed = replace(space, name="mobilenet_v2", layers=layers, choices=choices)
        lut = build_lut(fixed, setup.topology, setup.estimators)
        t_s = argmax_architecture(lut.mask_NR * 1.0, lut).latency_s
        if t_s <= t_const_s:
            best = (width, t_s, part)
    if best is None:
        return None
    module = build_module(best[2])
    for block in module.children():
        initialise_as_identity(block, torch.Generator().manual_seed(0))
    return best[0], best[1], module
