from dataclasses import replace

import numpy as np

from jmsnas.estimators.card import model_card
from jmsnas.estimators.evaluate import evaluate
from jmsnas.estimators.features import features
from jmsnas.estimators.recipe import make_recipe, table_sha256
from jmsnas.estimators.regressor import LatencyRegressor
from jmsnas.profiler.simulated import simulated_table
from jmsnas.profiler.table import Key, LatencyTable
from jmsnas.space_file import load_space

SIMULATED = simulated_table("pi4", load_space("digits").blocks(), [Key("torch")])


def card_of(table: LatencyTable) -> str:
    blocks, measured_s = [row.block for row in table.rows], np.array([row.median_s for row in table.rows])
    regressor = LatencyRegressor().fit(features(blocks), measured_s)
    recipe = make_recipe("pi4", table.rows[0].key, table.simulated, regressor, table_sha256(table))
    return model_card(table, recipe, evaluate(blocks, measured_s), 0.25)


def test_a_simulated_card_says_so_first_and_says_all() -> None:
    card = card_of(SIMULATED)
    assert card.split("\n")[2].startswith("**SIMULATED: 53 of 53 rows are not measurements of this device**")
    assert "53 rows of 7 geometries, whole geometries held out 5 ways" in card
    # exp(m) - 1 = 25 % above is 1 - 1 / 1.25 = 20 % below.
    assert "90 % interval: up to 25.0% above a prediction and 20.0% below" in card
    for line in ("| this estimator |", "| roofline alone |", "| line over MACs |", "## Not good for"):
        assert line in card
    assert "1 to 32 channels, 2 to 8 pixels a side" in card
    assert "jmsnas fit-estimator --device pi4 --seed 0" in card
    assert table_sha256(SIMULATED) in card


def test_a_measured_card_says_how_it_was_measured() -> None:
    rows = tuple(
        replace(row, kind="measured", rounds=40, ratio_low=0.99 * row.ratio, ratio_high=1.01 * row.ratio)
        for row in SIMULATED.rows
    )
    environment = {"simulated": {"cpu": "Cortex-A72"}}
    card = card_of(LatencyTable("pi4", rows, environment))
    assert card.split("\n")[2] == "MEASURED on the device."
    assert "SIMULATED" not in card
    assert "environment simulated: cpu Cortex-A72" in card
    assert "median of 40 rounds a row" in card and "100% of rows reached" in card
    assert "half width 1.00%" in card
