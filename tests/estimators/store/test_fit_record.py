import functools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jmsnas.errors import EstimatorError
from jmsnas.estimators.regression.features import RESIDUAL, ROOFLINE, features
from jmsnas.estimators.regression.regressor import LatencyRegressor
from jmsnas.estimators.store import fit_record as recipe_module
from jmsnas.estimators.store.fit_record import (
    FitRecord,
    make_fit_record,
    read_fit_record,
    read_json,
    table_sha256,
    write_fit_record,
)
from jmsnas.profiler.simulation.roofline import simulated_table
from jmsnas.profiler.table.latency_table import LatencyTable, RuntimeKey
from jmsnas.space_file import load_space

AGAIN = "jmsnas fit-estimator --device pi4"
TABLE = simulated_table("pi4", load_space("digits").blocks(), [RuntimeKey()])


@functools.cache
def fitted(residual: str = "none") -> FitRecord:
    table = features([row.block for row in TABLE.rows])[::3]
    measured_s = np.array([row.median_s for row in TABLE.rows])[::3]
    regressor = LatencyRegressor(3, residual).fit(table, measured_s)
    return make_fit_record("pi4", RuntimeKey(), True, regressor, table_sha256(TABLE))


def test_written_and_read_back(tmp_path: Path) -> None:
    record = fitted()
    write_fit_record(tmp_path / "recipe.json", record)
    assert read_fit_record(tmp_path / "recipe.json", AGAIN) == record
    assert record.seed == 3 and record.simulated and "scikit-learn" in record.versions
    assert list(record.rates) == [*ROOFLINE, "constant_s"] and record.lengths == {}


def test_the_length_scales_of_a_process_are_recorded(tmp_path: Path) -> None:
    record = fitted("gaussian_process")
    write_fit_record(tmp_path / "recipe.json", record)
    assert read_fit_record(tmp_path / "recipe.json", AGAIN) == record
    assert list(record.lengths) == [*RESIDUAL, "log_roofline"]
    # The signal's variance, one length an input, the noise's variance.
    assert record.choice.theta[1:-1] == pytest.approx([*map(math.log, record.lengths.values())])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d.update(schema_version=1),
            "has schema 1, this version reads 2. Run: jmsnas fit-estimator",
        ),
        (lambda d: d.pop("schema_version"), "has schema None, this version reads 2"),
        (
            lambda d: d.pop("seed"),
            "missing or wrong: Object missing required field `seed`. Run: jmsnas",
        ),
        (lambda d: d.update(features=["speed"]), "features that this version does not make. Run"),
        (lambda d: d["choice"].update(log_errors=[]), "log_errors must be 3 lists, not all of them empty"),
        (lambda d: d["choice"].update(log_errors=[[], [], []]), "log_errors must be 3 lists, not all"),
        (
            lambda d: d["choice"].update(log_errors=[[0.1], [], [1e9]]),
            "log_errors must be sorted numbers from 0 to",
        ),
        (lambda d: d["choice"].update(log_errors=[[math.nan], [], []]), "is not a JSON document of an est"),
        (lambda d: d["choice"].update(log_errors=[[0.2, 0.1], [], []]), "log_errors must be sorted numbers"),
        (lambda d: d["choice"].update(theta=[1e9]), "theta must be numbers from -50 to 50"),
        (lambda d: d["choice"].update(residual=["boosting"], theta=[1.0]), "theta must be 0 numbers, got 1"),
        (
            lambda d: d["choice"].update(residual=["gaussian_process"], theta=[1.0]),
            "theta must be 17 numbers, got 1",
        ),
        (lambda d: d["choice"].update(residual=["forest"]), "no such residual models: forest"),
        (lambda d: d["choice"].update(roofline="attic"), "no such roofline: attic"),
        (lambda d: d["choice"].update(share=0), "share must be more than 0 and at most 1, got 0.0"),
        (
            lambda d: d["choice"].update(share="1"),
            "Expected `float`, got `str` - at `..choice.share`",
        ),
        (lambda d: d["choice"].update(mapes=[["none"]]), "has a field that is missing or wrong"),
        (lambda d: d["choice"].update(theta="abc"), "has a field that is missing or wrong"),
        (lambda d: d.update(key=[]), "has a field that is missing or wrong"),
        (
            lambda d: d["key"].update(runtime="abacus"),
            "has a field that is missing or wrong: cannot run in 'abacus'",
        ),
    ],
)
def test_a_changed_recipe_is_refused(
    change: Callable[[dict[str, Any]], object], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.json"
    write_fit_record(path, fitted())
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(EstimatorError, match=message):
        read_fit_record(path, AGAIN)


def test_what_is_no_document_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        EstimatorError, match="no estimator in .*: recipe.json is missing. Run: jmsnas fit-est"
    ):
        read_json(tmp_path / "recipe.json", FitRecord, AGAIN)
    for content, reason in (
        (b"{", "is not a JSON document of an estimator: Input data was trunc"),
        (b"[]", "has a field that is missing or wrong: Expected `object`, got `array`"),
        (b"\xff\xfe\x00", "is not a JSON document"),
        (b'{"unknown":' + b"[" * 100_000, "is not a JSON document"),
    ):
        (tmp_path / "recipe.json").write_bytes(content)
        with pytest.raises(EstimatorError, match=reason):
            read_json(tmp_path / "recipe.json", FitRecord, AGAIN)
    with pytest.raises(EstimatorError, match="cannot read .*directory"):
        read_json(tmp_path, FitRecord, AGAIN)


def test_a_file_is_bounded_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe_module, "_MAX_BYTES", 100)
    (tmp_path / "recipe.json").write_text(json.dumps({"long": "x" * 100}))
    with pytest.raises(EstimatorError, match="it is larger than 100 bytes. Run: jmsnas fit-estimator"):
        read_json(tmp_path / "recipe.json", FitRecord, AGAIN)


def test_the_digest_follows_the_rows_and_not_their_order() -> None:
    digest = table_sha256(TABLE)
    assert table_sha256(replace(TABLE, rows=TABLE.rows[::-1])) == digest
    slower = replace(TABLE.rows[0], median_s=TABLE.rows[0].high_s * 1.01, high_s=TABLE.rows[0].high_s * 1.02)
    assert table_sha256(replace(TABLE, rows=(slower, *TABLE.rows[1:]))) != digest
    assert table_sha256(replace(TABLE, rows=TABLE.rows[1:])) != digest
    uncertain = replace(TABLE.rows[0], converged=False)
    assert table_sha256(LatencyTable("pi4", (uncertain, *TABLE.rows[1:]), {})) != digest
