import pytest
from matplotlib.figure import Figure

from jmsnas.estimators.evaluation.evaluate import Evaluation, PredictedRow, Scores
from jmsnas.report.estimator_plots import draw_geometries, draw_predicted
from jmsnas.report.plot_style import MEASURED_COLOUR, PUBLISHED_COLOUR, SIMULATED_COLOUR, png

SCORES = Scores(0.064, 0.117, 0.61, 0.9, 0.988)


def evaluation(*pairs: PredictedRow) -> Evaluation:
    return Evaluation(len(pairs), 3, 3, 0, SCORES, SCORES, SCORES, 0.91, (), pairs)


def pair(block: str, measured_s: float, factor: float) -> PredictedRow:
    predicted_s = measured_s * factor
    return PredictedRow(block, measured_s, predicted_s, predicted_s / 1.2, predicted_s * 1.2)


FOUND = evaluation(
    pair("mb_k3_e3 16->24 8x8 /2", 1e-3, 1.02),
    pair("mb_k5_e3 16->24 8x8 /2", 2e-3, 0.9),
    pair("mb_k3_e2.5_skip 24->24 4x4 (se 8, swish)", 3e-3, 1.25),
    pair("mbv3_k3_hs 24->24 4x4 h72", 3e-3, 3.5),
    pair("head 32->10 2x2 h128", 5e-4, 1.0),
)


def texts(figure: Figure) -> list[str]:
    (axes,) = figure.axes
    return [axes.get_title(loc="left"), axes.get_xlabel(), *(text.get_text() for text in axes.texts)]


def colours(figure: Figure) -> set[str]:
    return {str(line.get_color()) for line in figure.axes[0].lines if line.get_marker() == "o"}


def test_every_row_is_a_point_with_its_interval() -> None:
    figure = draw_predicted("board, torch-t1-b1-f32", FOUND, origin="measured")
    (axes,) = figure.axes
    (points,) = (line for line in axes.lines if line.get_marker() == "o")
    assert points.get_xdata().tolist() == pytest.approx([1, 2, 3, 3, 0.5])
    assert points.get_ydata().tolist() == pytest.approx([1.02, 1.8, 3.75, 10.5, 0.5])
    heading, label, *_ = texts(figure)
    assert heading == (
        "board, torch-t1-b1-f32\nunseen geometries: MAPE 6.4 %, 90 % within 10 %, 90 % interval covers 91 %"
    )
    assert label == "measured, ms" and colours(figure) == {MEASURED_COLOUR}
    assert png(figure).startswith(b"\x89PNG") and len(png(figure)) > 5000


def test_errors_by_geometry_the_worst_first() -> None:
    figure = draw_geometries("board", FOUND, origin="measured")
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    # (25 + 250) / 2; (2 + 10) / 2; 0
    assert names == ["24->24 4x4   137.5 %", "16->24 8x8 /2   6.0 %", "head 32->10 2x2   0.0 %"]
    # 250 % is beyond the edge: its value is written there.
    assert "+250 %" in texts(figure)
    drawn = sorted(
        float(x) for line in figure.axes[0].lines if line.get_marker() == "o" for x in line.get_xdata()
    )
    assert drawn == pytest.approx([-10, 0, 2, 25])
    assert texts(figure)[0] == "board\nall 3 geometries, each held out"


@pytest.mark.parametrize(
    ("origin", "mark", "colour"),
    [("simulated", "SIMULATED", SIMULATED_COLOUR), ("published", "published", PUBLISHED_COLOUR)],
)
def test_origins_other_than_measured_are_marked(origin: str, mark: str, colour: str) -> None:
    for draw in (draw_predicted, draw_geometries):
        figure = draw("pi4", FOUND, origin)
        heading, label, *_ = texts(figure)
        assert heading.startswith(f"{mark} pi4") and mark in label
        assert colours(figure) == {colour}


def test_at_most_40_geometries_are_drawn() -> None:
    many = evaluation(*(pair(f"mb_k3_e3 16->{n} 8x8", 1e-3, 1 + n / 1000) for n in range(1, 100)))
    figure = draw_geometries("board", many, origin="measured")
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(names) == 40 and names[0] == "16->99 8x8   9.9 %"
    assert texts(figure)[0].endswith("worst 40 of 99 geometries, each held out")


def test_names_from_files_are_safe_and_long_ones_wrapped() -> None:
    found = evaluation(pair("what$is$this", 1e-3, 1.0), pair("mb_k3_e3 1->1 1x1", 1e-3, 0.5))
    heading = texts(draw_geometries("$x^2$ " + "board " * 30, found, origin="measured"))[0]
    assert r"\$x^2\$" in heading and len(heading.splitlines()) == 4
    assert png(draw_geometries("$", found, origin="measured")) and png(
        draw_predicted("$", found, origin="measured")
    )
