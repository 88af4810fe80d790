from dataclasses import replace

import numpy as np
from synthetic_latencies import bent

from jmsnas.estimators.evaluation.evaluate import Evaluation, Scores, SplitScores
from jmsnas.estimators.regression.features import features
from jmsnas.estimators.regression.regressor import LatencyRegressor
from jmsnas.estimators.regression.residual_models import MODELS
from jmsnas.estimators.store.fit_record import make_fit_record, table_sha256
from jmsnas.estimators.store.model_card import model_card, model_section
from jmsnas.profiler.simulation.roofline import simulated_table
from jmsnas.profiler.table.latency_table import LatencyTable, RuntimeKey
from jmsnas.space_file import load_space

GOOD, BAD = Scores(0.02, 0.03, 0.9, 0.99, 0.98), Scores(0.2, 0.3, 0.1, 0.2, None)
JUDGED = SplitScores(
    "unseen geometry", 5, 53, {"estimator": GOOD, "roofline": BAD, "line over MACs": BAD}, 0.91, 1.5
)
EVALUATION = Evaluation(53, 7, 5, 0, GOOD, BAD, BAD, 0.91, (JUDGED,), ())
SIMULATED = simulated_table("pi4", load_space("digits").blocks(), [RuntimeKey("torch")])


def card_of(table: LatencyTable) -> str:
    blocks, measured_s = [row.block for row in table.rows], np.array([row.median_s for row in table.rows])
    regressor = LatencyRegressor(residual="none").fit(features(blocks), measured_s)
    record = make_fit_record("pi4", table.rows[0].key, table.simulated, regressor, table_sha256(table))
    return model_card(table, record, EVALUATION, [0.1, 0.2231436, 0.3])


def test_a_simulated_card_starts_with_its_mark() -> None:
    card = card_of(SIMULATED)
    assert card.split("\n")[2].startswith("**SIMULATED: 53 of 53 rows are not measurements of this device**")
    assert "Simulated: not evaluated." in card and "MAPE" not in card and "mean error" not in card
    assert "1 thread, batch 1, float32" in card and "no residual model: none improves" in card
    for line in ("| MACs, project |", "## Not good for", "## To fit it again"):
        assert line in card
    assert "1 to 32 channels, 2 to 8 pixels a side" in card
    assert "jmsnas fit-estimator --device pi4 --seed 0" in card
    assert table_sha256(SIMULATED) in card


def test_a_measured_card_describes_the_measurement() -> None:
    rows = tuple(
        replace(row, kind="measured", rounds=40, ratio_low=0.99 * row.ratio, ratio_high=1.01 * row.ratio)
        for row in SIMULATED.rows
    )
    environment = {"simulated": {"cpu": "Cortex-A72"}}
    card = card_of(LatencyTable("pi4", rows, environment))
    assert card.split("\n")[2] == "MEASURED on the device."
    assert "SIMULATED" not in card
    assert "environment simulated: cpu Cortex-A72" in card
    assert "median of 40 rounds per row" in card and "100% of rows reached" in card
    assert "half-width 1.00%" in card
    assert "53 rows of 7 geometries (" in card and "in 5 folds of whole geometries" in card
    assert "its mean error is 2.0%; 99% of them are predicted within 10 %, 91% are in its 90 % int" in card
    # exp(m) - 1 = 25 % above is 1 - 1 / 1.25 = 20 % below.
    assert "| new geometry | -20.0% to +25.0% |" in card
    assert "| this estimator | 2.0% | 3.0% | 90.0% | 99.0% | 0.980 |" in card
    assert "| line over MACs | 20.0% | 30.0% | 10.0% | 20.0% | - |" in card
    assert "| unseen geometry | 2.0% | 20.0% | 99% | 91% |" in card
    assert "| roofline alone | 0.0% |" in card
    held = {"trust": "red", "trust_reason": "something held its core"}
    half = tuple(replace(row, **held if n % 2 else {"trust": "green"}) for n, row in enumerate(rows))
    expected = "- trust: 27 green, 26 red (mostly: something held its core); rows are weighted by their trust"
    assert expected in card_of(LatencyTable("pi4", half, environment))
    green = tuple(replace(row, trust="green") for row in rows)
    assert "- trust: 53 green\n" in card_of(LatencyTable("pi4", green, environment))


def test_a_residual_that_is_believed_in_part_is_named() -> None:
    record = make_fit_record("pi4", RuntimeKey("torch"), False, bent(), "digest")
    card = model_section(replace(record, choice=replace(bent().choice_, residual=tuple(MODELS), share=0.5)))
    assert "a residual model of its logarithmic error: mean of kernel ridge, boosted trees and G" in card
    assert "shrunk to 50%" in card
    whole = model_section(replace(record, choice=replace(bent().choice_, residual=("boosting",), share=1.0)))
    assert "error: boosted trees. Candidates and their errors on held-out geometries" in whole
