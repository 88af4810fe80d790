import pytest

from jmsnas.errors import InputError
from jmsnas.estimators.few_shot.experimental_design import informative_rows
from jmsnas.estimators.few_shot.plan import make_few_shot_plan
from jmsnas.estimators.regression.features import features
from jmsnas.profiler.plan import make_profile_plan
from jmsnas.space_file import load_space

PLAN = make_profile_plan(load_space("digits"), off_grid=4, parts=3)


def test_blocks_in_informative_order_and_all_parts() -> None:
    few = make_few_shot_plan(PLAN, 20)
    blocks = [*PLAN.groups[0][1], *PLAN.groups[1][1]]
    order = informative_rows(features(blocks), len(blocks))  # type: ignore[arg-type]
    assert few.order == tuple(blocks[row] for row in order)
    assert few.parts == PLAN.groups[2][1]
    assert few.initial == (*few.order[:20], *few.parts) and few.until_mape is None


def test_shown_as_a_plan() -> None:
    shown = make_few_shot_plan(PLAN, 20).as_plan
    assert [(what, len(group)) for what, group in shown.groups] == [
        ("the most informative blocks, of 57", 20),
        ("whole models, to correct sums of blocks", 3),
    ]
    assert shown.subjects == make_few_shot_plan(PLAN, 20).initial
    assert len(make_few_shot_plan(make_profile_plan(load_space("digits"))).as_plan.groups) == 1


def test_twenty_by_default_and_never_more_than_there_are() -> None:
    few = make_few_shot_plan(PLAN, until_percent=5)
    assert (few.blocks, few.until_mape) == (20, 0.05)
    assert len(make_few_shot_plan(PLAN, 500).initial) == 57 + 3


@pytest.mark.parametrize("blocks", [4, 0, -1])
def test_too_few_blocks(blocks: int) -> None:
    with pytest.raises(InputError, match=f"cannot fit .* to {blocks} blocks .*: expected --blocks 5 or more"):
        make_few_shot_plan(PLAN, blocks)


@pytest.mark.parametrize("percent", [0, -5, 100, float("nan")])
def test_impossible_errors(percent: float) -> None:
    with pytest.raises(InputError, match=r"got --until-mape .*: expected a mean error in percent, above 0"):
        make_few_shot_plan(PLAN, until_percent=percent)
