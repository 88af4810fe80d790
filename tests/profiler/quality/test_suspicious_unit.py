from collections.abc import Sequence

import pytest
from synthetic_published import records

from jmsnas.profiler.quality.gate import suspicious_unit
from jmsnas.profiler.quality.read_published import entries_of_records
from jmsnas.profiler.quality.rules import QualityFinding


def found(factor: float, count: int = 12, **changes: object) -> Sequence[QualityFinding]:
    rows = [{**row, "latency_ms": factor * row["latency_ms"]} for row in records(count, **changes)]
    return list(suspicious_unit(entries_of_records(rows, "t")))


@pytest.mark.parametrize("factor", [1.0, 30.0, 1 / 30])
def test_devices_are_of_many_speeds(factor: float) -> None:
    assert found(factor) == []


def test_a_table_read_in_too_large_a_unit_is_slower_than_any_processor() -> None:
    (entry,) = found(1000.0)
    assert (entry.rule, entry.severity, len(entry.rows)) == ("level", "warning", 12)
    assert entry.message.startswith("the fastest of 12 rows of Some board, CPU, 2 threads reaches 0.00")
    assert (
        "GMAC/s, slower than any processor; check that latency_ms is in milliseconds. It is row "
        in entry.message
    )


def test_a_table_read_in_too_small_a_unit_is_faster_than_any_cpu() -> None:
    (entry,) = found(1e-3)
    assert "faster than any CPU; check that latency_ms is in milliseconds" in entry.message
    assert found(1e-3, processor="Mali GPU") == []


def test_few_rows_say_nothing_and_latencies_that_are_none_do_not_count() -> None:
    assert found(1000.0, count=2) == []
    assert found(-1.0) == [] and found(float("nan")) == []
