from dataclasses import replace

import numpy as np
import pytest
from roofline_predictor import Roofline

from jmsnas.errors import InfeasibleError, TopologyError
from jmsnas.files import preset_names
from jmsnas.nas.latency.build_lut import build_lut
from jmsnas.nas.latency.mesh_lut import MeshLUT
from jmsnas.nas.split.placement import Placement
from jmsnas.profiler.simulation.roofline import load_simulated_device
from jmsnas.space import SearchSpace
from jmsnas.space_file import load_space
from jmsnas.topology import Topology, load_topology

TOPOLOGY = load_topology("mesh")
SPACE = load_space("digits", branches=3)


def mesh_lut(space: SearchSpace = SPACE, topology: Topology = TOPOLOGY, split: str = "joint") -> MeshLUT:
    predictors = {d.name: Roofline(load_simulated_device(d.table)) for d in topology.devices}
    lut = build_lut(space, topology, predictors, split)
    assert isinstance(lut, MeshLUT)
    return lut


def with_device(name: str, **limits: object) -> Topology:
    devices = tuple(replace(d, **limits) if d.name == name else d for d in TOPOLOGY.devices)
    return replace(TOPOLOGY, devices=devices)


def test_equation_2_by_hand() -> None:
    # Stem and three layers on the UE, one on the SBS; branches of three; four on the cloud.
    lut, indices = mesh_lut(), (0,) * SPACE.N
    placement = Placement((4, 5, 9), (0, 1, 2))
    U = lut.U_NRM[:, 0]
    # 16x8x8 float32 over 25 Mbit/s; 24x4x4 over 50 Mbit/s, and over 200 Mbit/s.
    sends = 8 * 4096 / 25e6, 8 * 1536 / 50e6, 8 * 1536 / 200e6
    tails = U[14:18, 5].sum()
    slowest = max(U[5:8, 2].sum(), U[8:11, 3].sum(), U[11:14, 4].sum())
    expected = U[:4, 0].sum() + sends[0] + U[4, 1] + sends[1] + slowest + sends[2] + tails
    assert lut.latency_s(indices, placement) == pytest.approx(expected, rel=1e-12)
    terms = {term.device: term for term in lut.terms(indices, placement)}
    assert terms["laptop"].layers == (5,) and terms["cloud"].layers == (15, 16, 17, 18)
    assert terms["mbs2"].layers == (9, 10, 11) and terms["mbs2"].sent_bytes == 1536
    assert terms["mbs2"].epsilon_root_s == pytest.approx(sends[1])
    # Serial fan-out: the third child waits for two copies more.
    serial = mesh_lut(topology=replace(TOPOLOGY, fan_out="serial"))
    assert serial.latency_s(indices, placement) == pytest.approx(expected + 2 * sends[1], rel=1e-12)


def test_calls_by_hand() -> None:
    # As in `test_equation_2_by_hand`: one call of each device, of the slowest child only that of this child.
    calls_s = {"pi4": 1e-3, "laptop": 2e-3, "mbs1": 0.5, "mbs2": 4e-3, "mbs3": 5e-3, "cloud": 6e-3}
    devices = tuple(replace(device, call_s=calls_s[device.name]) for device in TOPOLOGY.devices)
    called, free = mesh_lut(topology=replace(TOPOLOGY, devices=devices)), mesh_lut()
    indices, placement = (0,) * SPACE.N, Placement((4, 5, 9), (0, 1, 2))
    U = free.U_NRM[:, 0]
    slowest = max(U[5:8, 2].sum(), U[8:11, 3].sum(), U[11:14, 4].sum())
    expected = free.latency_s(indices, placement) - slowest + U[5:8, 2].sum() + 1e-3 + 2e-3 + 0.5 + 6e-3
    assert called.latency_s(indices, placement) == pytest.approx(expected, rel=1e-12)
    terms = called.terms(indices, placement)
    assert {term.device: term.call_s for term in terms} == calls_s
    assert [term.tau_s for term in terms] == [term.tau_s for term in free.terms(indices, placement)]
    assert called.cloud_only(indices)[0] == pytest.approx(free.cloud_only(indices)[0] + 6e-3, rel=1e-12)
    fixed = mesh_lut(topology=replace(TOPOLOGY, devices=devices), split="fixed")
    latency_s, only = fixed.best_split(indices)
    assert latency_s == pytest.approx(called.latency_s(indices, only), rel=1e-12)
    p_NR = np.zeros(called.mask_NR.shape)
    p_NR[:, 0] = 1.0
    assert called.expected(p_NR).latency_s == pytest.approx(called.best_split(indices)[0], rel=1e-12)
    # A trunk on the UE alone leaves the root without a call.
    relay = mesh_lut(topology=replace(TOPOLOGY, devices=devices, policy="relay"))
    terms = {term.device: term for term in relay.terms(indices, Placement((5, 5, 9), (0, 1, 2)))}
    assert terms["laptop"].call_s == 0 and terms["pi4"].call_s == 1e-3


def test_best_is_no_slower_than_any_cut() -> None:
    lut = mesh_lut(topology=replace(TOPOLOGY, policy="relay"))
    indices = tuple(n % 6 if row.sum() > 1 else 0 for n, row in enumerate(lut.mask_NR))
    best_s, placement = lut.best_split(indices)
    assert best_s == pytest.approx(lut.latency_s(indices, placement), rel=1e-12)
    every = [Placement((c, 5, 9), (0, 1, 2)) for c in range(6)]
    assert best_s == pytest.approx(min(lut.latency_s(indices, p) for p in every), rel=1e-12)


def test_one_child_makes_equation_1() -> None:
    # A tree of one child is a chain of the same four devices: T is equal for the same layers and cuts.
    chain = load_topology("chain")
    one = replace(chain, root="laptop", children=("jetson",))
    space = load_space("digits", branches=1)
    alone = replace(space, branches=())
    predictors = {d.name: Roofline(load_simulated_device(d.table)) for d in chain.devices}
    mesh, line = build_lut(space, one, predictors), build_lut(alone, chain, predictors)
    indices = (0,) * space.N
    for cut in range(1, 5):
        t_mesh = mesh.latency_s(indices, Placement((cut, 5, 9), (0,)))
        assert t_mesh == pytest.approx(line.latency_s(indices, Placement((cut, 5, 8, 12))), rel=1e-12)
    assert mesh.cloud_only(indices) == pytest.approx(line.cloud_only(indices))


def test_a_fixed_split_has_one_placement() -> None:
    lut = mesh_lut(split="fixed")
    # Five layers of the trunk on two devices: three and two; four behind, all on the cloud.
    assert lut.best_split((0,) * SPACE.N)[1] == Placement((3, 5, 9), (0, 1, 2))
    given = mesh_lut(topology=with_device("pi4", layers=1), split="fixed")
    assert given.best_split((0,) * SPACE.N)[1].cuts == (1, 5, 9)


def test_memory_of_a_child() -> None:
    lut = mesh_lut()
    heavy, light = SPACE.choices[6][5], SPACE.choices[6][-1]
    assert (heavy.name, light.name) == ("mb_k7_e6_skip", "identity")
    # One branch of large blocks, two of Identity; mbs1 holds 10 kB.
    indices = tuple(5 if n in SPACE.branches[0] else len(SPACE.choices[n]) - 1 for n in range(SPACE.N))
    weights = lut.terms(indices, Placement((4, 5, 9), (0, 1, 2)))[2].memory_bytes
    assert weights is not None and weights > 10_000
    limited = mesh_lut(topology=with_device("mbs1", memory_bytes=10_000))
    assert limited.limited and not lut.limited
    assert limited.best_split(indices)[1].children[0] != 0
    fixed = mesh_lut(topology=with_device("mbs1", memory_bytes=10_000), split="fixed")
    with pytest.raises(InfeasibleError, match="no way to give each of 3 branches one of 3 children"):
        fixed.best_split(indices)


def test_the_way_back_adds_each_link_once() -> None:
    returning = mesh_lut(topology=replace(TOPOLOGY, returns=True))
    indices, placement = (0,) * SPACE.N, Placement((4, 5, 9), (0, 1, 2))
    # 10 logits of 4 bytes over 25, 50 and 200 Mbit/s.
    extra = 320 / 25e6 + 320 / 50e6 + 320 / 200e6
    without = mesh_lut().latency_s(indices, placement)
    assert returning.latency_s(indices, placement) == pytest.approx(without + extra, rel=1e-12)
    assert returning.terms(indices, placement)[-1].return_s == pytest.approx(extra)
    least_s = mesh_lut().best_split(indices)[0]
    assert returning.best_split(indices)[0] == pytest.approx(least_s + extra, rel=1e-9)


@pytest.mark.parametrize("name", preset_names("spaces"))
def test_every_space_has_a_mesh(name: str) -> None:
    for branches in (1, 3, 5):
        space = load_space(name, branches=branches)
        assert len(space.branches) == branches and space.trunk == space.branches[0][0]
        # The blocks are those of the chain: what was profiled serves both.
        assert set(space.blocks()) <= set(load_space(name).blocks())
    lut = mesh_lut(load_space(name, branches=3))
    low_s, high_s = lut.feasible_range_s()
    assert 0 < low_s < high_s


def test_branches_and_children_that_do_not_fit() -> None:
    with pytest.raises(TopologyError, match="has 3 children, space digits 4 branches: expected one branch"):
        mesh_lut(load_space("digits", branches=4))
    with pytest.raises(TopologyError, match="has 3 children, space digits 0 branches"):
        mesh_lut(load_space("digits"))
    relay = replace(TOPOLOGY, policy="relay")
    assert len(mesh_lut(load_space("digits", branches=2), relay).best_split((0,) * 15)[1].children) == 2
    with pytest.raises(TopologyError, match="unknown split 'free': expected joint or fixed"):
        mesh_lut(split="free")


def test_a_child_with_too_few_layers_for_its_limit() -> None:
    lut = mesh_lut(topology=with_device("mbs1", min_layers=4))
    with pytest.raises(InfeasibleError, match="no way to give each of 3 branches one of 3 children"):
        lut.feasible_range_s()
    assert np.isfinite(mesh_lut(topology=with_device("mbs1", min_layers=3)).feasible_range_s()).all()
