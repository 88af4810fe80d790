import pytest
from profiling_jobs import EAGER, a_row

from jmsnas.cost import cost
from jmsnas.errors import InputError
from jmsnas.mobilenets import NAMES, mobilenet
from jmsnas.profiler.plan import make_profile_plan, max_duration_s, sample_models
from jmsnas.profiler.simulation.roofline import simulated_table
from jmsnas.profiler.table.latency_table import LatencyTable, RuntimeKey
from jmsnas.profiler.table.schema import separate_parts
from jmsnas.space import Part
from jmsnas.space_file import load_space

SPACE = load_space("digits")


def test_space_alone_unless_more_is_asked_for() -> None:
    plan = make_profile_plan(SPACE)
    assert plan.subjects == SPACE.blocks()
    assert plan.groups == (("every candidate of every distinct layer of digits", SPACE.blocks()),)


def test_groups_are_shown_and_subjects_are_measured_once() -> None:
    plan = make_profile_plan(SPACE, off_grid=16, parts=10, mobilenets=True)
    assert [(what.partition(",")[0], len(group)) for what, group in plan.groups][:2] == [
        ("every candidate of every distinct layer of digits", 53),
        ("off the grid: other widths and resolutions", 16),
    ]
    mobile = plan.groups[2][1]
    assert {*mobile} == {
        b for name in NAMES for b in mobilenet(name, SPACE.input_shape, SPACE.classes).blocks
    }
    assert len(plan.groups[3][1]) == 10 and all(isinstance(part, Part) for part in plan.groups[3][1])
    assert len(plan.subjects) == len({*plan.subjects}) <= sum(len(group) for _, group in plan.groups)
    assert {*plan.subjects} == {subject for _, group in plan.groups for subject in group}


@pytest.mark.parametrize("wrong", [{"off_grid": -1}, {"parts": -3}])
def test_negative_numbers(wrong: dict[str, int]) -> None:
    with pytest.raises(
        InputError, match=r"cannot measure -?\d+ off-grid blocks and -?\d+ models: expected 0"
    ):
        make_profile_plan(SPACE, **wrong)


def test_whole_networks_are_of_the_space_and_spread_over_its_cost() -> None:
    networks = sample_models(SPACE, 10)
    assert len({*networks}) == 10
    for network in networks:
        assert [block.layer for block in network.blocks] == [*SPACE.layers]
        assert all(b.candidate in choices for b, choices in zip(network.blocks, SPACE.choices, strict=True))
    macs = [cost(network).macs for network in networks]
    assert macs == sorted(macs)
    # Evenly among the networks drawn, most of which are neither the cheapest nor the dearest there are.
    assert macs[-1] > 10 * macs[0]
    skipped = [sum(block.candidate.op == "identity" for block in network.blocks) for network in networks]
    assert min(skipped) <= 1 and max(skipped) >= 6, "shallow networks and deep ones"


def test_draw_follows_the_seed() -> None:
    first, same, other = (make_profile_plan(SPACE, 8, 5, seed=seed).subjects for seed in (1, 1, 2))
    assert first == same != other
    assert make_profile_plan(SPACE, parts=0).groups[0][1] == SPACE.blocks()


def test_what_a_table_lacks() -> None:
    plan = make_profile_plan(SPACE, parts=3)
    assert plan.missing(None, EAGER) == 56
    blocks, parts = separate_parts(
        [*map(a_row, plan.subjects[:50]), a_row(plan.subjects[-1]), a_row(key=RuntimeKey())]
    )
    table = LatencyTable("local", blocks, {}, parts)
    assert plan.missing(table, EAGER) == 5 and plan.missing(table, RuntimeKey(threads=4)) == 56
    assert plan.missing(simulated_table("pi4", SPACE.blocks(), [RuntimeKey()]), RuntimeKey()) == 56, (
        "simulated is not measured"
    )


def test_time_by_hand() -> None:
    # Two keys lack 10 and 20 blocks at 0.6 s, a tenth again, and two processes each of 5 s; one lacks none.
    assert max_duration_s([10, 20, 0], 0.6, None, 5.0) == pytest.approx(1.1 * 0.6 * 30 + 4 * 5.0)
    # A budget is spent for every key, whatever it lacks.
    assert max_duration_s([10, 0], 0.6, 60.0, 5.0) == pytest.approx(2 * 60.0 + 4 * 5.0)
    assert max_duration_s([], 0.6, None, 5.0) == max_duration_s([0], 0.6, None, 5.0) == 0
