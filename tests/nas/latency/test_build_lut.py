import numpy as np
import pytest
from roofline_predictor import Roofline
from synthetic_luts import move_latencies_s

from jmsnas.device import Device
from jmsnas.errors import TopologyError
from jmsnas.nas.latency.build_lut import build_lut, sent_bytes
from jmsnas.nas.split.placement import Placement
from jmsnas.profiler.simulation.roofline import load_simulated_device
from jmsnas.space import Block
from jmsnas.space_file import load_space
from jmsnas.topology import Link, Topology, load_topology

SPACE, TOPOLOGY = load_space("digits"), load_topology("chain")
PREDICTORS = {device.name: Roofline(load_simulated_device(device.table)) for device in TOPOLOGY.devices}


def test_every_block_of_every_layer_on_every_device() -> None:
    lut = build_lut(SPACE, TOPOLOGY, PREDICTORS)
    assert lut.U_NRM.shape == (12, 13, 4) and lut.mask_NR.sum() == 2 + 2 * 6 + 8 * 13
    assert (lut.U_NRM[lut.mask_NR] > 0).all() and (lut.U_NRM[~lut.mask_NR] == 0).all()
    block = Block(SPACE.choices[4][3], SPACE.layers[4])
    assert lut.U_NRM[4, 3, 2] == PREDICTORS["jetson"].predict_s([block])[0]


def test_bytes_and_seconds_on_the_wire() -> None:
    sent_LM = sent_bytes(SPACE, TOPOLOGY)
    # uint8 input 1x8x8 = 64 B; 16x8x8 float32 = 4096 B; 24x4x4 = 1536 B; 32x2x2 = 512 B; 10 logits = 40 B.
    assert sent_LM[:, 0].tolist() == [64] + [4096] * 4 + [1536] * 4 + [512] * 3 + [40]
    assert (sent_LM[:, 3] == 0).all()
    lut = build_lut(SPACE, TOPOLOGY, PREDICTORS)
    assert lut.epsilon_LM[5, 0] == pytest.approx(8 * 1536 / 25e6)


def test_terms_add_up_to_t() -> None:
    lut = build_lut(SPACE, TOPOLOGY, PREDICTORS)
    indices, placement = (0,) * 12, Placement((3, 5, 9, 12))
    terms = lut.terms(indices, placement)
    assert sum(term.tau_s + term.epsilon_s for term in terms) == pytest.approx(
        lut.latency_s(indices, placement), rel=1e-12
    )
    assert [term.layers for term in terms] == [(1, 2, 3), (4, 5), (6, 7, 8, 9), (10, 11, 12)]
    assert [term.sent_bytes for term in terms] == [4096, 1536, 512, 0]


def test_moves_that_policies_allow() -> None:
    epsilon_LM = np.array([[1.0, 10, 0], [2, 20, 0], [3, 30, 0]])
    strict, relay, early = (
        move_latencies_s(epsilon_LM, policy) for policy in ("strict", "relay", "stop-early")
    )
    inf = np.inf
    assert strict[1].tolist() == [[0, 2, inf], [inf, 0, 20], [inf, inf, 0]]
    assert strict[0, 0].tolist() == [0, inf, inf] and strict[2].min(axis=1).tolist() == [inf, inf, 0]
    assert relay[0, 0].tolist() == [0, 1, 11] and relay[2].min(axis=1).tolist() == [33, 30, 0]
    assert early[2].min(axis=1).tolist() == [0, 0, 0]


def test_networks_that_cannot_be_filled() -> None:
    mesh = Topology(
        "fig2b",
        tuple(Device(name, "jetson", "") for name in ("sbs", "mbs", "cloud")),
        (Link("sbs", "mbs", 1e6), Link("mbs", "cloud", 1e6)),
        root="sbs",
        children=("mbs",),
    )
    with pytest.raises(
        TopologyError, match="topology fig2b has 1 children, space digits 0 branches: expected"
    ):
        build_lut(SPACE, mesh, PREDICTORS)
    names = [f"d{m}" for m in range(13)]
    long = Topology(
        "long",
        tuple(Device(name, "pi4", "") for name in names),
        tuple(Link(a, b, 1e6) for a, b in zip(names, names[1:], strict=False)),
    )
    with pytest.raises(TopologyError, match="strict gives each of 13 devices a layer, space digits has 12"):
        build_lut(SPACE, long, dict.fromkeys(names, PREDICTORS["pi4"]))
