"""Networks that a searched one is compared with: random ones of the same band, MobileNetV2 cut to it."""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from jmsnas.blocks import build
from jmsnas.datasets.seeding import drawn_from
from jmsnas.errors import SpaceError
from jmsnas.mobilenets import mobilenet
from jmsnas.nas.derivation.derive import Derived, argmax_network
from jmsnas.nas.derivation.target import Band, Target, derive_for
from jmsnas.nas.latency.build_lut import build_lut
from jmsnas.nas.search.run_folder import Setting
from jmsnas.nas.supernet.initialisation import begin_alike

RANDOM, BAND = 5, 0.03


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
