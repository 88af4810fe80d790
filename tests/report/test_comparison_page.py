import pytest

from jmsnas.nas.comparison import ComparisonEntry
from jmsnas.report.comparison_page import csv_text, draw_fig6


def entry(accuracy: float, **changes: object) -> ComparisonEntry:
    fields = {
        "network": "JMSNAS", "method": "searched", "topology": "chain", "size": 8, "accuracy": accuracy,
        "latency_s": 1e-3, "parameters": 1, "macs": 1, "simulated": True, **changes,
    }  # fmt: skip
    return ComparisonEntry(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("accuracies", [(1.0, 0.99), (0.0, 1.0), (0.5, 0.6)])
def test_axis_of_the_accuracy_ends_at_100_percent(accuracies: tuple[float, float]) -> None:
    low, high = draw_fig6([entry(share) for share in accuracies]).axes[0].get_ylim()
    assert 0 <= low < 100 * min(accuracies) + 1e-9 or low == 0
    assert 100 * max(accuracies) <= high <= 100


def test_t_of_predicted_blocks_is_marked() -> None:
    assert entry(1.0, extrapolated=True).marks == "SIMULATED, extrapolated"
    assert entry(1.0, simulated=False).marks == ""


def test_name_of_a_run_is_no_formula_in_the_table() -> None:
    text = csv_text([entry(1.0, run="=cmd|' /C calc'!A0", missing="@SUM(1)")])
    assert "'=cmd" in text and "'@SUM" in text and ",=" not in text
