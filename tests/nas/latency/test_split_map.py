from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from jmsnas.architecture import Architecture
from jmsnas.device import Device
from jmsnas.errors import DeviceError, SpaceError, TopologyError
from jmsnas.nas.latency.split_map import (
    default_architecture,
    resize_space,
    simulated_predictors,
    split_map,
)
from jmsnas.space import HEAD, STEM, Block, Candidate, Layer, SearchSpace
from jmsnas.space_file import load_space
from jmsnas.topology import Link, Topology, load_topology

MB = Candidate(3, 6)
# Three layers over a 4x4 image of one channel: 2x4x4, 2x2x2, 3 logits; float32: 128, 32 and 12 bytes.
TINY = SearchSpace(
    "tiny",
    (1, 4, 4),
    3,
    (Layer(1, 2, 1, 4, 4, "stem"), Layer(2, 2, 2, 4, 4), Layer(2, 3, 1, 2, 2, "head", 8)),
    ((STEM,), (Candidate(3, 3), MB), (HEAD,)),
)
ARCHITECTURE = Architecture((STEM, MB, HEAD))
TWO = Topology(
    "two",
    (Device("ue", "ue", "UE"), Device("far", "far", "cloud")),
    (Link("ue", "far", 1e6),),
    policy="relay",
)


class Constant:
    """U(.) that is the same for every block."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def predict_s(self, blocks: Sequence[Block]) -> NDArray[np.float64]:
        return np.full(len(blocks), self.seconds)


SLOW_AND_FAST = {"ue": Constant(1e-3), "far": Constant(1e-4)}


def test_the_map_by_hand() -> None:
    # A layer takes 1 ms on the UE, 0.1 ms far away; the raw image is 16 bytes (uint8).
    # At 1 Mbit/s: cloud only 8 x 16 / 1e6 = 0.128 ms + 3 x 0.1 = 0.428 ms, and nothing is less.
    # At 10 kbit/s: cloud only 12.8 + 0.3 = 13.1 ms. Cuts (3, 3): 3 + 8 x 12 / 1e4 = 3 + 9.6 = 12.6 ms.
    # Cuts (2, 3): 2 + 25.6 + 0.1; cuts (1, 3): 1 + 102.4 + 0.2: both more.
    found = split_map(TINY, ARCHITECTURE, TWO, SLOW_AND_FAST, [4], [1e6, 1e4])
    assert found.cloud_SK == pytest.approx(np.array([[0.428e-3, 13.1e-3]]))
    assert found.best_SK == pytest.approx(np.array([[0.428e-3, 12.6e-3]]))
    assert found.cuts_SKM.tolist() == [[[0, 3], [3, 3]]]
    assert found.layers_SKM.tolist() == [[[0, 3], [3, 0]]]
    assert (found.sizes, found.rates_bps, found.input_encoding, found.policy) == (
        (4,),
        (1e6, 1e4),
        "uint8",
        "relay",
    )


def test_the_paper_s_policy_and_a_float32_input_by_hand() -> None:
    # strict: cuts (1, 3) at 1 Mbit/s: 1 + 8 x 128 / 1e6 (1.024 ms) + 0.2 = 2.224 ms;
    # cuts (2, 3): 2 + 8 x 32 / 1e6 (0.256 ms) + 0.1 = 2.356 ms. Cloud only, float32: 0.512 + 0.3 = 0.812 ms.
    strict = replace(TWO, policy="strict", input_encoding="float32")
    found = split_map(TINY, ARCHITECTURE, strict, SLOW_AND_FAST, [4], [1e6])
    assert found.best_SK[0, 0] == pytest.approx(2.224e-3) and found.cuts_SKM[0, 0].tolist() == [1, 3]
    assert found.cloud_SK[0, 0] == pytest.approx(0.812e-3) and found.policy == "strict"


def test_sizes_change_what_is_sent_and_what_is_computed() -> None:
    # 8x8 at 1 Mbit/s: the image is 64 bytes: 0.512 + 0.3 = 0.812 ms.
    found = split_map(TINY, ARCHITECTURE, TWO, SLOW_AND_FAST, [4, 8], [1e6])
    assert found.cloud_SK[:, 0] == pytest.approx(np.array([0.428e-3, 0.812e-3]))
    layers = resize_space(TINY, 8).layers
    assert [(layer.height, layer.width) for layer in layers] == [(8, 8), (8, 8), (4, 4)]
    assert resize_space(TINY, 4) == TINY


@settings(max_examples=25)
@given(rates=st.lists(st.floats(1e3, 1e9), min_size=2, max_size=4), slow=st.floats(1e-6, 1e-2))
def test_the_best_never_loses_to_cloud_only_nor_rises_with_the_rate(rates: list[float], slow: float) -> None:
    predictors = {"ue": Constant(slow), "far": Constant(1e-4)}
    found = split_map(TINY, ARCHITECTURE, TWO, predictors, [4, 6], sorted(rates))
    assert (found.best_SK <= found.cloud_SK * (1 + 1e-12)).all()
    assert (np.diff(found.best_SK, axis=1) <= 1e-12).all()
    paper = replace(TWO, policy="strict")
    strict = split_map(TINY, ARCHITECTURE, paper, predictors, [4, 6], sorted(rates))
    assert (strict.best_SK >= found.best_SK * (1 - 1e-12)).all()


def test_plain_architecture_of_imagenet() -> None:
    names = default_architecture(load_space("imagenet")).names
    assert len(names) == 24 and names[:4] == ("stem", "mb_k3_e1", "mb_k3_e6", "mb_k3_e6_skip")
    assert names.count("mb_k3_e6_skip") == 15 and names.count("mb_k3_e6") == 6 and names[-1] == "head"


def test_simulated_predictors_are_the_rooflines() -> None:
    topology = load_topology("chain")
    predictors = simulated_predictors(topology)
    assert list(predictors) == ["pi4", "laptop", "jetson", "cloud"]
    blocks = load_space("digits").blocks()
    assert predictors["pi4"].predict_s(blocks).shape == (len(blocks),)
    assert (predictors["pi4"].predict_s(blocks) > 0).all()


def test_what_is_refused() -> None:
    with pytest.raises(DeviceError, match="unknown simulated device 'ue': expected one of"):
        simulated_predictors(TWO)
    alone = Topology("alone", TWO.devices[:1], ())
    with pytest.raises(TopologyError, match="topology alone has no link: expected two or more devices"):
        split_map(TINY, ARCHITECTURE, alone, SLOW_AND_FAST, [4], [1e6])
    with pytest.raises(TopologyError, match="has rate 0 Mbit/s: expected more than 0"):
        split_map(TINY, ARCHITECTURE, TWO, SLOW_AND_FAST, [4], [0.0])
    other = replace(ARCHITECTURE, candidates=(STEM, Candidate(7, 6), HEAD))
    with pytest.raises(SpaceError, match="layer 2 cannot be mb_k7_e6"):
        split_map(TINY, other, TWO, SLOW_AND_FAST, [4], [1e6])


def test_an_empty_map_is_empty() -> None:
    assert split_map(TINY, ARCHITECTURE, TWO, SLOW_AND_FAST, [4], []).best_SK.shape == (1, 0)
