"""S4: U(.) is positive and finite for any block, exact on measured rows, and reads no other schema."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from block_strategies import any_block
from hypothesis import given, settings
from hypothesis import strategies as st
from prove.proof import Proof

from jmsnas.errors import EstimatorError
from jmsnas.estimators.store.estimator import Estimator, fit_estimator, load_estimator
from jmsnas.estimators.store.layout import FIT_RECORD
from jmsnas.profiler.simulation.roofline import simulated_table
from jmsnas.profiler.table.latency_table import BlockRow, LatencyTable, RuntimeKey
from jmsnas.space import Block, Candidate, Layer

KEY = RuntimeKey()


def bent(row: BlockRow, generator: np.random.Generator) -> BlockRow:
    """A row measured within 1 %, slower for larger kernels, so that a residual model is selected."""
    factor = (1 + 0.1 * row.block.candidate.kernel_size) * float(np.exp(generator.normal(0, 0.01)))
    middle_s, ratio = row.median_s * factor, row.ratio * factor
    return replace(
        row, kind="measured", converged=True, rounds=50, trust="green",
        median_s=middle_s, low_s=0.99 * middle_s, high_s=1.01 * middle_s,
        ratio=ratio, ratio_low=0.99 * ratio, ratio_high=1.01 * ratio,
    )  # fmt: skip


def measured() -> LatencyTable:
    blocks = [
        Block(Candidate(k, e, True), Layer(c, c, 1, size, size))
        for k in (3, 5, 7)
        for e in (3, 6)
        for c, size in ((8, 28), (8, 14), (16, 14), (24, 14), (24, 7), (32, 7), (48, 7))
    ]
    table, generator = simulated_table("pi4", blocks, [KEY]), np.random.default_rng(0)
    return replace(table, rows=tuple(bent(row, generator) for row in table.rows))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = tmp_path_factory.mktemp("estimators") / "pi4" / KEY.label
    fit_estimator(measured(), KEY, workspace)
    return workspace


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Estimator:
    found = load_estimator(folder)
    assert found.regressor.choice_.residual
    return found


def test_positive_and_finite_for_any_block_exact_on_rows(loaded: Estimator, proof: Proof) -> None:
    rows = {row.block: row for row in measured().rows}
    examples, tried = proof.count(200, prove=2000, long=1_000_000), 0

    @settings(max_examples=examples, database=None)
    @given(st.lists(any_block(), min_size=1, max_size=3), st.sampled_from(sorted(rows, key=str)))
    def holds(blocks: list[Block], known: Block) -> None:
        nonlocal tried
        tried += 1
        everything = [*blocks, known]
        seconds, (low_s, high_s) = loaded.predict_s(everything), loaded.interval_s(everything)
        assert np.isfinite(high_s).all() and (low_s > 0).all()
        assert (low_s <= seconds).all() and (seconds <= high_s).all()
        row = rows[known]
        assert (seconds[-1], low_s[-1], high_s[-1]) == (row.median_s, row.low_s, row.high_s)

    holds()
    proof.show(f"{tried:,} sets of blocks of any size: positive, finite, measured rows to the last bit")
    assert tried >= examples


@pytest.mark.parametrize("schema", [0, 1, 3, "2", None])
def test_another_schema_is_refused_with_the_command(folder: Path, schema: object, proof: Proof) -> None:
    path = folder / FIT_RECORD
    kept = path.read_text()
    path.write_text(json.dumps({**json.loads(kept), "schema_version": schema}))
    try:
        with pytest.raises(
            EstimatorError, match=r"(reads 2|schema_version`)\. Run: jmsnas fit-estimator --device pi4"
        ):
            load_estimator(folder)
    finally:
        path.write_text(kept)
    proof.show("another schema refused with the command to run")
