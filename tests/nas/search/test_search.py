import dataclasses

import pytest
import torch
from roofline_predictor import Roofline
from tiny_search import digest, tiny_splits

from jmsnas.datasets.digits import digits
from jmsnas.errors import InfeasibleError, TrainingError
from jmsnas.nas.derivation.target import BandStatus, derive_for_target, resolve_target
from jmsnas.nas.latency.build_lut import build_lut
from jmsnas.nas.latency.policy import best_split
from jmsnas.nas.search.config import SearchConfig
from jmsnas.nas.search.search import search
from jmsnas.nas.search.session import Callbacks, SearchResult
from jmsnas.nas.search.stages import EpochRecord
from jmsnas.profiler.simulation.roofline import load_simulated_device
from jmsnas.space_file import load_space
from jmsnas.topology import load_topology

SPACE = load_space("digits")
TOPOLOGY = load_topology("chain")
PREDICTORS = {d.name: Roofline(load_simulated_device(d.table)) for d in TOPOLOGY.devices}
LUT = build_lut(SPACE, TOPOLOGY, PREDICTORS)
SHORT = SearchConfig(warmup_epochs=1, search_epochs=1, final_epochs=1)


def run(config: SearchConfig) -> SearchResult:
    return search(config, SPACE, LUT, digits(config.seed))


@pytest.fixture(scope="module")
def first() -> SearchResult:
    return run(SHORT)


def test_the_same_seed_gives_the_same_result_and_another_another() -> None:
    state = torch.get_rng_state()
    one, same, other = (
        digest(search(dataclasses.replace(SHORT, seed=seed), SPACE, LUT, tiny_splits(seed)))
        for seed in (0, 0, 1)
    )
    assert one == same != other
    assert torch.equal(torch.get_rng_state(), state)  # the caller's generator is not touched


def test_the_same_seed_gives_the_same_on_a_mesh_its_log_included() -> None:
    topology, space = load_topology("mesh"), load_space("digits", branches=3)
    lut = build_lut(
        space, topology, {d.name: Roofline(load_simulated_device(d.table)) for d in topology.devices}
    )
    config = dataclasses.replace(SHORT, warmup_epochs=0, final_epochs=0)
    one, same, other = (
        digest(search(dataclasses.replace(config, seed=seed), space, lut, tiny_splits()))
        for seed in (0, 0, 1)
    )
    assert one == same != other


def test_the_derived_network_meets_the_target_under_its_best_split(first: SearchResult) -> None:
    t_const_s = first.target.t_const_s
    assert first.in_band and first.derived.optimal
    assert 0.97 * t_const_s <= first.derived.latency_s <= t_const_s
    best_s, placement = best_split(LUT.tau_NM(first.derived.indices), LUT.moves_LMM)
    assert (best_s, placement) == (first.derived.latency_s, first.derived.placement)
    assert first.architecture.indices(SPACE) == first.derived.indices
    assert t_const_s == pytest.approx((first.target.fastest_s + first.target.slowest_s) / 2)


def test_the_log_tells_the_three_stages(first: SearchResult) -> None:
    assert [(epoch.stage, epoch.epoch) for epoch in first.history] == [
        ("warm-up", 1), ("search", 2), ("final", 1),
    ]  # fmt: skip
    warm, searched, final = first.history
    assert warm.arch_loss is None and searched.arch_loss is not None and final.entropy is None
    assert searched.expected_latency_s == pytest.approx(first.expected_latency_s)
    # The network that would be derived now: of the last epoch it is the likeliest in the band.
    assert warm.derived_accuracy is None and final.derived_latency_s is None
    now_s, t_const_s = searched.derived_latency_s, first.target.t_const_s
    assert now_s is not None and 0.97 * t_const_s <= now_s <= t_const_s
    assert searched.derived_accuracy is not None and 0 < searched.derived_accuracy < 1


def test_stage_two_learns() -> None:
    seen: list[EpochRecord] = []
    config = dataclasses.replace(SHORT, final_epochs=6)
    result = search(config, SPACE, LUT, digits(0), Callbacks(report=seen.append))
    losses = [epoch.loss for epoch in seen if epoch.stage == "final"]
    assert losses[-1] < 0.5 * losses[0] and result.test_accuracy > 0.5 > result.inherited_accuracy


def test_a_target_that_no_network_meets_is_refused_before_training() -> None:
    low = resolve_target(LUT, None).fastest_s
    with pytest.raises(
        InfeasibleError,
        match=r"no architecture meets T_const .* on pi4 - laptop - jetson - cloud: the feasible range is "
        r".* to .*ms. Try --t-const [\d.]+ms",
    ):
        search(dataclasses.replace(SHORT, t_const_s=0.9 * low), SPACE, LUT, digits(0))


def test_limits_that_no_network_keeps_are_refused_before_training() -> None:
    # The stem alone takes 704 bytes of weights and 8,192 of images, and the chain's first device must run it.
    devices = tuple(
        dataclasses.replace(d, memory_bytes=8e3) if d.name == "pi4" else d for d in TOPOLOGY.devices
    )
    lut = build_lut(SPACE, dataclasses.replace(TOPOLOGY, devices=devices), PREDICTORS)
    seen: list[EpochRecord] = []
    with pytest.raises(
        InfeasibleError,
        match=r"no architecture with T <= .* was found within the memory and energy of pi4 .*limits in",
    ):
        search(SHORT, SPACE, lut, digits(0), Callbacks(report=seen.append))
    assert not seen


def test_a_target_above_the_slowest_network_is_legal() -> None:
    target = resolve_target(LUT, 1.0)
    p_NR = LUT.mask_NR / LUT.mask_NR.sum(axis=1, keepdims=True)
    (derived,), band = derive_for_target(p_NR, LUT, target, 0.03)
    assert band is BandStatus.EMPTY and derived.latency_s <= target.slowest_s * 1.001


def test_an_empty_band_falls_back_to_the_best_below_the_target() -> None:
    # The fastest network of all has a gap above it wider than a band of a millionth.
    target = resolve_target(LUT, resolve_target(LUT, None).fastest_s * 1.001)
    p_NR = LUT.mask_NR / LUT.mask_NR.sum(axis=1, keepdims=True)
    (derived,), band = derive_for_target(p_NR, LUT, target, 1e-6)
    assert band is BandStatus.EMPTY and derived.latency_s <= target.t_const_s


def test_a_band_that_was_not_searched_to_its_end_is_not_called_empty() -> None:
    target = resolve_target(LUT, resolve_target(LUT, None).fastest_s * 1.001)
    p_NR = LUT.mask_NR / LUT.mask_NR.sum(axis=1, keepdims=True)
    (derived,), band = derive_for_target(p_NR, LUT, target, 1e-6, max_nodes=1)
    assert band is BandStatus.UNDECIDED and derived.latency_s <= target.t_const_s


def test_a_learning_rate_that_explodes_is_one_line() -> None:
    with pytest.raises(TrainingError, match="the loss became (nan|inf) in .*: lower the learning"):
        run(dataclasses.replace(SHORT, lr=1e18))
