import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from profiling_jobs import a_row

from jmsnas.estimators.few_shot import measure
from jmsnas.estimators.few_shot.measure import FewShotResult, cross_validated_error, measure_few_shot
from jmsnas.estimators.few_shot.plan import FewShotPlan, make_few_shot_plan
from jmsnas.estimators.store.estimator import load_estimator
from jmsnas.profiler.plan import ProfilePlan, sample_models
from jmsnas.profiler.profile import ProfileResult
from jmsnas.profiler.simulation.roofline import simulated_table
from jmsnas.profiler.table.latency_table import AnyRow, LatencyTable, RuntimeKey
from jmsnas.profiler.table.schema import separate_parts
from jmsnas.space import Block, BlockOrPart
from jmsnas.space_file import load_space

SPACE, KEY = load_space("digits"), RuntimeKey("torch")
# Too few for a model on top of the roofline, so that fits take no time.
POOL, PARTS = SPACE.blocks()[::6], sample_models(SPACE, 3)
EXACT_S = {row.block: row.median_s for row in simulated_table("pi4", SPACE.blocks(), [RuntimeKey()]).rows}


@dataclass
class Bench:
    """Runs nothing: a block takes a roofline's seconds, give or take `spread`; a part half of its blocks'."""

    spread: float = 0.0
    half_width: float = 0.005
    trust: tuple[str, str] = ("green", "")
    refused: frozenset[Block] = frozenset()
    rows: dict[tuple[RuntimeKey, BlockOrPart], AnyRow] = field(default_factory=dict)
    requests: list[tuple[tuple[BlockOrPart, ...], float | None]] = field(default_factory=list)
    now_s: float = 0.0

    def seconds(self, subject: BlockOrPart) -> float:
        if not isinstance(subject, Block):
            return 0.5 * sum(map(self.seconds, subject.blocks))
        off = zlib.crc32(str(subject).encode()) % 201 / 100 - 1
        return EXACT_S[subject] * math.exp(self.spread * off)

    def __call__(
        self, subjects: Sequence[BlockOrPart], keys: Sequence[RuntimeKey], budget_s: float | None
    ) -> ProfileResult:
        self.requests.append((tuple(subjects), budget_s))
        self.now_s += 10.0
        for subject in subjects:
            if subject not in self.refused:
                for key in keys:
                    row = a_row(subject, (self.seconds(subject) / 1e-4,), key, half_width=self.half_width)
                    mark, why = self.trust
                    self.rows[key, subject] = replace(row, trust=mark, trust_reason=why)
        blocks, parts = separate_parts(self.rows.values())
        return ProfileResult(
            LatencyTable("local", blocks, {"abc": {}}, parts), Path("local.parquet"), "measured"
        )


def few(blocks: int, until_mape: float | None = None, pool: Sequence[Block] = POOL) -> FewShotPlan:
    plan = make_few_shot_plan(ProfilePlan((("blocks", tuple(pool)), ("parts", PARTS))), blocks)
    return replace(plan, until_mape=until_mape)


def measured(
    folder: Path,
    bench: Bench,
    plan: FewShotPlan,
    budget_s: float | None = None,
    keys: Sequence[RuntimeKey] = (KEY,),
) -> tuple[FewShotResult, ...]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "monotonic", lambda: bench.now_s)
        _, results = measure_few_shot(plan, keys, bench, lambda key: folder / key.label, budget_s=budget_s)
    return results


def test_first_blocks_are_measured_fitted_and_evaluated(tmp_path: Path) -> None:
    bench, plan = Bench(), few(7)
    first, second = measured(tmp_path, bench, plan, 30.0, (KEY, RuntimeKey()))
    assert bench.requests == [((*plan.order[:7], *PARTS), 30.0)]
    assert (first.key, second.key) == (KEY, RuntimeKey())
    assert (first.rows, first.unmeasured, first.reached, first.stop_reason) == (7, len(POOL) - 7, None, "")
    assert first.geometries == len({block.layer for block in plan.order[:7]})
    assert first.mape_standard_error > 0 and first.margin >= 0
    # Stem and head are measured: their errors no longer matter.
    assert {block.layer.role for block in POOL if block not in plan.order[:7]} == {"block"}
    pairs = load_estimator(first.folder).evaluation.pairs
    errors = [abs(p.predicted_s / p.measured_s - 1) for p in pairs if p.block.startswith("mb_")]
    assert 2 < len(errors) < len(pairs) and first.mape == pytest.approx(sum(errors) / len(errors))
    # Blocks without a row are those that U(.) answers for; the parts take half of what their blocks do.
    assert first.sum_correction and first.sum_correction.parts == 3


def test_goes_on_until_the_error_is_reached(tmp_path: Path) -> None:
    bench, plan = Bench(), few(6, 0.05, SPACE.blocks()[::3])
    (result,) = measured(tmp_path, bench, plan)
    assert result.reached and result.stop_reason == "5 % is reached" and result.mape <= 0.05
    assert 6 < result.rows < len(plan.order)
    # 4 more at a time while a quarter of what is known is less.
    sizes = [len(subjects) for subjects, _ in bench.requests]
    assert sizes == [6 + 3, *[4] * (len(sizes) - 1)] and len(sizes) > 1
    assert [block for subjects, _ in bench.requests for block in subjects if isinstance(block, Block)] == [
        *plan.order[: result.rows]
    ]
    # Again: nothing is measured that is there.
    again = Bench(rows=bench.rows)
    assert measured(tmp_path, again, plan) == (result,) and len(again.requests) == 1


def test_all_are_measured_and_it_is_not_enough(tmp_path: Path) -> None:
    bench = Bench(spread=0.4)
    (result,) = measured(tmp_path, bench, few(6, 0.01))
    assert result.reached is False and result.unmeasured == 0
    assert result.stop_reason.startswith("all 9 blocks to choose from are measured: add blocks with a larger")
    assert result.stop_reason.endswith("as in --off-grid 18") and [len(of) for of, _ in bench.requests] == [
        6 + 3,
        3,
    ]


def test_blocks_that_cannot_be_measured_end_it(tmp_path: Path) -> None:
    plan = few(5, 0.01)
    bench = Bench(spread=0.4, refused=frozenset(plan.order[3:4]))
    (result,) = measured(tmp_path, bench, plan)
    assert (
        result.stop_reason == "1 of 9 blocks could not be measured, all others are" and result.unmeasured == 1
    )
    assert len({block for subjects, _ in bench.requests for block in subjects}) == 9 + 3


def test_budget_ends_it(tmp_path: Path) -> None:
    bench = Bench(spread=0.4)
    (result,) = measured(tmp_path, bench, few(5, 0.01, SPACE.blocks()[::4]), budget_s=12.0)
    # 8 subjects take 1.1 * 0.6 * 8 = 5.3 s at most, 4 blocks 2.6 s: more than the 2 s that 10 s leave.
    assert [budget_s for _, budget_s in bench.requests] == [None, pytest.approx(2.0)]
    assert (
        result.reached is False and result.stop_reason == "the budget is used up: the same command continues"
    )


def test_no_estimator_is_better_than_the_noise_of_its_rows(tmp_path: Path) -> None:
    bench = Bench(spread=0.4, half_width=0.1)
    (result,) = measured(tmp_path, bench, few(7, 0.03))
    # A half width of 10 % is a standard deviation of 5.1 %, and 4.1 % off in the mean of a normal law.
    assert (
        result.stop_reason.startswith("the mean error of the measurements themselves is 4.1%")
        and len(bench.requests) == 1
    )


def test_disturbed_rows_cannot_check_an_error(tmp_path: Path) -> None:
    bench = Bench(spread=0.4, trust=("red", "something else held its core"))
    (result,) = measured(tmp_path, bench, few(7, 0.03))
    assert result.stop_reason == (
        "7 of 7 rows are marked red (as: something else held its core), too uncertain to check "
        "an error of 3 %: end other programs, and the same command measures them again"
    )
    assert result.reached is False and len(bench.requests) == 1


def test_cross_validated_error_is_that_of_the_evaluation(tmp_path: Path) -> None:
    bench = Bench(spread=0.1)
    (result,) = measured(tmp_path, bench, few(8))
    table = LatencyTable("local", separate_parts(bench.rows.values())[0], {"abc": {}})
    assert cross_validated_error(table, roles=frozenset({"block"})) == pytest.approx(
        (result.mape, result.mape_standard_error)
    )
    assert cross_validated_error(table)[0] == pytest.approx(
        load_estimator(result.folder).evaluation.model.mape
    )
    assert cross_validated_error(table, roles=frozenset({"classifier"})) == cross_validated_error(table)


def test_error_of_one_geometry_is_unknown() -> None:
    layer = POOL[0].layer
    rows = separate_parts([a_row(block) for block in SPACE.blocks() if block.layer == layer])[0]
    assert cross_validated_error(LatencyTable("local", rows, {})) == (math.inf, math.inf)
