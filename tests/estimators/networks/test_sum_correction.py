from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jmsnas.errors import EstimatorError
from jmsnas.estimators.networks.sum_correction import fit_sum_correction, table_correction
from jmsnas.profiler.plan import sample_models
from jmsnas.profiler.simulation.roofline import simulated_table
from jmsnas.profiler.table.latency_table import LatencyTable, PartRow, RuntimeKey
from jmsnas.space import Block
from jmsnas.space_file import load_space


def test_factor_and_junction_are_found() -> None:
    # whole = 0.8 * sum - 2 us * (blocks - 1), exactly.
    sums, blocks = [1e-4, 2e-4, 5e-4, 9e-4], [4, 4, 9, 9]
    found = fit_sum_correction(
        sums, blocks, [0.8 * s - 2e-6 * (n - 1) for s, n in zip(sums, blocks, strict=True)]
    )
    assert (found.slope, found.junction_s, found.parts) == (pytest.approx(0.8), pytest.approx(-2e-6), 4)
    assert found.error == pytest.approx(0, abs=1e-9)
    # 100 / 74, 200 / 154, 500 / 384, 900 / 704, less 1.
    assert found.gap == pytest.approx(np.mean([100 / 74, 200 / 154, 500 / 384, 900 / 704]) - 1)
    assert found.apply(3e-4, 6) == pytest.approx(2.3e-4)


def test_networks_of_one_depth_speak_for_parts_of_them() -> None:
    # Every call costs 2 us, which a network of 12 blocks pays once and its blocks pay 12 times.
    wholes = [1e-5, 3e-5, 8e-5]
    found = fit_sum_correction([w + 11 * 2e-6 for w in wholes], [12] * 3, wholes)
    assert found.apply(1e-5 + 3 * 2e-6, 4) == pytest.approx(1e-5)
    assert found.apply(1e-5, 1) == pytest.approx(1e-5)


def test_corrected_seconds_stay_positive() -> None:
    found = fit_sum_correction([2e-4, 4e-4, 6e-4], [11] * 3, [1e-4, 3e-4, 5e-4])
    assert found.junction_s == pytest.approx(-1e-5) and found.apply(5e-5, 11) == pytest.approx(5e-6)


def test_error_is_that_of_parts_left_out() -> None:
    # Without the third the fit to the others is whole = sum, which is off by a half there.
    assert fit_sum_correction([1.0, 2.0, 4.0], [2, 2, 2], [1.0, 2.0, 8.0]).error > 0.3


@pytest.mark.parametrize(
    "wrong",
    [
        ([1.0, 2.0], [2, 2], [1.0, 2.0]),
        ([1.0, 2.0, 0.0], [2, 2, 2], [1.0, 2.0, 3.0]),
        ([1.0, 2.0, 3.0], [2, 2], [1.0, 2.0, 3.0]),
        ([], [], []),
    ],
)
def test_too_few_or_impossible(wrong: tuple[list[float], list[int], list[float]]) -> None:
    with pytest.raises(EstimatorError, match=r"expected 3 or more of each, above 0 s\. Measure whole"):
        fit_sum_correction(*wrong)


def test_correction_of_a_table(tmp_path: Path) -> None:
    space = load_space("digits")
    table = simulated_table("pi4", space.blocks(), [RuntimeKey()])
    parts, like = sample_models(space, 4), table.rows[0]
    median_s = {row.block: row.median_s for row in table.rows}
    values = {name: getattr(like, name) for name in PartRow.__dataclass_fields__ if name != "block"}
    rows = [PartRow(**values, block=part) for part in parts]
    rows = [
        replace(row, median_s=s, low_s=s, high_s=s)
        for row in rows
        for s in [0.5 * sum(median_s[block] for block in row.block.blocks)]
    ]
    found = table_correction(LatencyTable("pi4", table.rows, table.environments, tuple(rows)))
    assert found and found.slope == pytest.approx(0.5) and found.gap == pytest.approx(1.0)
    # A block that the table lacks leaves no sum; two parts make no line.
    assert table_correction(LatencyTable("pi4", table.rows, table.environments, tuple(rows[:2]))) is None
    lacking = tuple(row for row in table.rows if row.block != parts[0].blocks[-1])
    some = LatencyTable("pi4", lacking, table.environments, tuple(rows))
    assert table_correction(some) is None
    # Where U(.) answers for what lacks a row, all four parts count.
    inputs: list[list[Block]] = []

    def predict_s(blocks: Sequence[Block]) -> np.ndarray:
        inputs.append([*blocks])
        return np.array([median_s[block] for block in blocks])

    line = table_correction(some, predict_s)
    assert line and (line.parts, line.slope) == (4, pytest.approx(0.5))
    assert inputs == [[parts[0].blocks[-1]]]
