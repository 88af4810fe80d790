import math
from dataclasses import replace
from pathlib import Path

import pytest
from profiling_jobs import a_row
from synthetic_published import a_record, records, write_published

from jmsnas.estimators.fit_tables import fit_tables
from jmsnas.estimators.lookup import DeviceModel, find_device_model
from jmsnas.estimators.networks.sum_correction import SumCorrection
from jmsnas.estimators.prediction import nearest_layer, predict_blocks, predict_part
from jmsnas.profiler.exchange.import_table import ImportRequest, import_table
from jmsnas.profiler.table.latency_table import PartRow
from jmsnas.space import IDENTITY, STEM, Block, Candidate, Layer, Part
from jmsnas.workspace import Workspace

KNOWN = Block(Candidate(3, 3), Layer(16, 24, 1, 7, 7))
AFTER = Block(Candidate(3, 3), Layer(24, 8, 1, 7, 7))
NEW = Block(Candidate(5, 4), Layer(24, 32, 1, 14, 14))
FAR = Block(Candidate(3, 3), Layer(512, 512, 1, 200, 200))
LINE = SumCorrection(2.0, 1e-4, parts=5, gap=0.1, error=0.05)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> DeviceModel:
    """Of a published table; a record without an interval stands for KNOWN, and one with for the next."""
    folder = tmp_path_factory.mktemp("prediction")
    rows = [*records(18)]
    rows[1] |= {"n_runs": 100, "latency_var_ms2": 1e-4}
    workspace = Workspace(folder / "workspace")
    fit_tables(workspace, tables=[write_published(folder / "p.parquet", rows)])
    return find_device_model(workspace, "some-board-cpu-2-threads")


def test_a_measured_row_is_returned(model: DeviceModel) -> None:
    (found,) = predict_blocks(model, [KNOWN])
    assert found.kind == "imported" and found.from_row and not found.extrapolated
    assert found.row and found.latency_s == found.row.median_s == found.low_s == found.high_s
    assert found.nearest == KNOWN.layer


def test_a_row_with_an_interval_gives_it(model: DeviceModel) -> None:
    (found,) = predict_blocks(model, [Block(Candidate(5, 6), Layer(16, 24, 1, 7, 7))])
    # 0.01 ms over sqrt(100), times 1.96
    share = 1.96e-6 / found.latency_s
    assert (found.low_s, found.high_s) == pytest.approx(
        (found.latency_s / (1 + share), found.latency_s + 1.96e-6)
    )


def test_other_blocks_are_predicted_and_far_ones_extrapolated_with_a_wider_interval(
    model: DeviceModel,
) -> None:
    new, far, identity, stem = predict_blocks(
        model,
        [NEW, FAR, Block(IDENTITY, Layer(24, 24, 1, 7, 7)), Block(STEM, Layer(16, 16, 2, 14, 14, "stem"))],
    )
    assert (new.kind, new.row, new.from_row) == ("predicted", None, False)
    assert new.low_s < new.latency_s < new.high_s
    assert far.kind == "extrapolated" and far.extrapolated
    assert math.log(far.high_s / far.low_s) > 2 * math.log(new.high_s / new.low_s)
    # Nothing was fitted that does nothing, and no stem: whatever their sizes, they are outside.
    assert identity.kind == stem.kind == "extrapolated"


def test_a_too_uncertain_row_is_not_used(model: DeviceModel) -> None:
    table = replace(model.table, rows=(replace(model.table.rows[0], trust="red"), *model.table.rows[1:]))
    rows = {block: row for block, row in model.estimator.rows.items() if block != KNOWN}
    uncertain = replace(model, table=table, estimator=replace(model.estimator, rows=rows))
    (found,) = predict_blocks(uncertain, [KNOWN])
    assert found.kind == "predicted" and found.row and found.row.trust == "red" and not found.from_row


def test_the_order_of_blocks_is_kept_and_none_are_none(model: DeviceModel) -> None:
    found = predict_blocks(model, [NEW, KNOWN, FAR, KNOWN])
    assert [each.block for each in found] == [NEW, KNOWN, FAR, KNOWN]
    assert predict_blocks(model, []) == ()


def test_a_part_is_the_sum_of_its_blocks_and_of_their_bounds(model: DeviceModel) -> None:
    total = predict_part(model, Part((KNOWN, AFTER)))
    first, second = total.blocks
    assert total.sum_s == pytest.approx(first.latency_s + second.latency_s)
    assert (total.low_s, total.high_s) == pytest.approx(
        (first.low_s + second.low_s, first.high_s + second.high_s)
    )
    assert (total.corrected, total.row) == (None, None)


def test_whole_networks_correct_a_sum(model: DeviceModel) -> None:
    part = Part((KNOWN, AFTER))
    whole = replace(a_row(part), median_s=3e-4, low_s=2e-4, high_s=4e-4)
    assert isinstance(whole, PartRow)
    with_parts = replace(
        model, table=replace(model.table, device="local", rows=(), parts=(whole,)), correction=LINE
    )
    total = predict_part(with_parts, part)
    assert total.row == whole and total.corrected
    # Twice the sum, and one junction.
    assert total.corrected.latency_s == pytest.approx(2 * total.sum_s + 1e-4)
    # A block without an interval leaves that of the line: 5 % either way.
    assert total.corrected.low_s == pytest.approx(total.corrected.latency_s / 1.05)
    assert total.corrected.high_s == pytest.approx(total.corrected.latency_s * 1.05)
    # The one whole network takes 300 us, and this one is not within what was measured.
    assert total.corrected.extrapolated


def test_imported_rows_answer_too(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    import_table(write_published(tmp_path / "p.parquet", records(9)), ImportRequest("pixel1"), workspace)
    (found,) = predict_blocks(find_device_model(workspace, "pixel1"), [KNOWN])
    assert found.kind == "imported" and found.latency_s == pytest.approx(a_latency_s())


def a_latency_s() -> float:
    return float(a_record(height=7, width=7)["latency_ms"]) / 1e3


def test_the_nearest_geometry_is_of_the_same_role_then_of_the_same_sizes() -> None:
    layers = [Layer(16, 24, 1, 7, 7), Layer(16, 32, 2, 14, 14), Layer(3, 16, 2, 14, 14, "stem")]
    assert nearest_layer(Layer(16, 24, 2, 14, 14), layers) == layers[1]
    assert nearest_layer(Layer(16, 24, 1, 8, 8), layers) == layers[0]
    assert nearest_layer(Layer(16, 32, 2, 14, 14, "stem"), layers) == layers[2]
    assert nearest_layer(Layer(16, 32, 2, 14, 14, "head", 8), layers) == layers[1]
    assert nearest_layer(Layer(16, 24, 1, 7, 7), []) is None
