from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmsnas.errors import TableError
from jmsnas.profiler.table.compare import compare_tables
from jmsnas.profiler.table.latency_table import BlockRow, LatencyTable, RuntimeKey
from jmsnas.space import Block, Candidate, Layer

BLOCKS = tuple(Block(Candidate(k, 3), Layer(16, 16, 1, 8, 8)) for k in (3, 5, 7))


def a_row(block: Block, median_s: float, key: RuntimeKey, kind: str = "measured") -> BlockRow:
    low, high = median_s * 0.99, median_s * 1.01
    return BlockRow(
        device="local", key=key, block=block, kind=kind, median_s=median_s, low_s=low, high_s=high,
        ratio=median_s * 1e4, ratio_low=low * 1e4, ratio_high=high * 1e4, reference_s=1e-4,
        min_s=low, p90_s=high, rounds=30, converged=True, environment="e",
        measured_at="2026-11-23", source="a test", samples=(median_s * 1e4,) * 3, process_rounds=(3,),
    )  # fmt: skip


def a_table(
    *medians_s: float, key: RuntimeKey | None = None, kind: str = "measured", cpu: str = "one"
) -> LatencyTable:
    pairs = zip(BLOCKS, medians_s, strict=False)
    rows = tuple(a_row(block, median_s, key or RuntimeKey(), kind) for block, median_s in pairs)
    return LatencyTable("local", rows, {"e": {"cpu": cpu, "cores": "2"}})


FIRST = a_table(1e-4, 2e-4, 4e-4)


def test_ratios_with_intervals_and_one_verdict() -> None:
    found = compare_tables(FIRST, a_table(1.01e-4, 2.2e-4, 8e-4))
    assert [entry.ratio for entry in found.ratios] == pytest.approx([1.01, 1.1, 2.0])
    # 1.01 * 0.99 / 1.01 to 1.01 * 1.01 / 0.99
    assert (found.ratios[0].low, found.ratios[0].high) == pytest.approx((0.99, 1.0304040404))
    assert [entry.disjoint for entry in found.ratios] == [False, True, True]
    assert found.median_ratio == pytest.approx(1.1) and found.disjoint_share == pytest.approx(2 / 3)
    assert found.differ and found.level_ratio == 1.0
    assert not compare_tables(FIRST, a_table(1.01e-4, 2.2e-4, 8e-4), tolerance=0.11).differ


def test_faster_differs_as_slower_does() -> None:
    # 1 / 0.95 = 1.0526, 1 / 0.953 = 1.0493
    assert compare_tables(FIRST, a_table(0.95e-4, 1.9e-4, 3.8e-4)).differ
    assert not compare_tables(FIRST, a_table(0.953e-4, 1.906e-4, 3.812e-4)).differ


def test_level_ratio_separates_the_host_speed() -> None:
    second = a_table(1.5e-4, 3e-4, 6e-4)
    second = replace(second, rows=tuple(replace(row, reference_s=1.5e-4) for row in second.rows))
    found = compare_tables(FIRST, second)
    assert found.median_ratio == pytest.approx(1.5) and found.level_ratio == pytest.approx(1.5)


def test_rows_and_hosts_that_only_one_has() -> None:
    torch = a_table(1e-4, key=RuntimeKey("torch"))
    more = LatencyTable("local", (*FIRST.rows, *torch.rows), FIRST.environments)
    found = compare_tables(more, a_table(1e-4, 2e-4, cpu="two"))
    assert (len(found.ratios), found.only_first, found.only_second) == (2, 2, 0)
    assert found.environment == {"cpu": ("one", "two")}
    assert compare_tables(FIRST, FIRST).environment == {}


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            RuntimeKey("torch"),
            r"they have onnxruntime-t1-b1-f32 and torch-t1-b1-f32; they differ in runtime \(onnx",
        ),
        (RuntimeKey(threads=2), r"differ in threads \(1 against 2\)"),
        (RuntimeKey(batch=8), r"differ in batch \(1 against 8\)"),
        (
            RuntimeKey(dtype="float16", processor="cuda"),
            r"differ in dtype \(float32 against float16\), processor \(cpu against cuda\)",
        ),
        (
            RuntimeKey("torch", layout="channels_last", timer="torchprof"),
            r"runtime \(.*\), layout \(contiguous against channels_last\), timer \(wall against torchprof\)",
        ),
    ],
)
def test_other_set_up_is_refused(key: RuntimeKey, message: str) -> None:
    with pytest.raises(TableError, match=f"no key is common.*{message}.*Profile both with the same settings"):
        compare_tables(FIRST, a_table(1e-4, key=key))


def test_keys_that_go_together_otherwise() -> None:
    def of(*keys: RuntimeKey) -> LatencyTable:
        return LatencyTable("local", tuple(a_row(BLOCKS[0], 1e-4, key) for key in keys), {})

    with pytest.raises(TableError, match="they differ in the combination of these settings"):
        compare_tables(
            of(RuntimeKey("torch", 1), RuntimeKey("onnxruntime", 2)),
            of(RuntimeKey("torch", 2), RuntimeKey("onnxruntime", 1)),
        )


def test_measured_beside_simulated_is_refused() -> None:
    with pytest.raises(
        TableError,
        match=r"is measured in the first \(local\) and simulated in the second \(local\), as are 3 of 3",
    ):
        compare_tables(FIRST, a_table(1e-4, 2e-4, 4e-4, kind="simulated"))


def hosted(**environment: str) -> LatencyTable:
    return replace(FIRST, environments={"e": environment})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"governor": "performance"},
            r"\(governor powersave against performance\)\. Set both up in the same way",
        ),
        ({"cpu": "two", "governor": "performance"}, "governor powersave against performance"),
        ({"power_mode": "MODE_15W"}, "power_mode MAXN against MODE_15W"),
        ({"max_frequency_khz": "1200000"}, "max_frequency_khz 1800000 against 1200000"),
    ],
)
def test_hosts_set_up_differently_are_refused(changed: dict[str, str], message: str) -> None:
    host = {"cpu": "one", "governor": "powersave", "power_mode": "MAXN", "max_frequency_khz": "1800000"}
    with pytest.raises(TableError, match=f"their hosts were set up differently .*{message}"):
        compare_tables(hosted(**host), hosted(**{**host, **changed}))


def test_frequencies_of_different_processors_and_unknown_entries_are_ignored() -> None:
    one = hosted(cpu="one", governor="performance", max_frequency_khz="1800000")
    other = hosted(cpu="two", max_frequency_khz="4200000")
    assert compare_tables(one, other).environment["governor"] == ("performance", "unknown")


def test_no_common_block() -> None:
    others = LatencyTable("local", FIRST.rows[:1], {}), LatencyTable("local", FIRST.rows[1:], {})
    with pytest.raises(TableError, match="share no block under onnxruntime-t1-b1-f32: profile both"):
        compare_tables(*others)


@pytest.mark.parametrize("tolerance", [0.0, 1.0, float("nan")])
def test_impossible_tolerance(tolerance: float) -> None:
    with pytest.raises(TableError, match="expected a fraction between 0 and 1, such as 0.05"):
        compare_tables(FIRST, FIRST, tolerance)


@given(st.lists(st.floats(1e-6, 1e-1), min_size=3, max_size=3))
def test_the_other_way_round_is_the_inverse(medians_s: list[float]) -> None:
    there, back = compare_tables(FIRST, a_table(*medians_s)), compare_tables(a_table(*medians_s), FIRST)
    for one, other in zip(there.ratios, back.ratios, strict=True):
        assert one.ratio * other.ratio == pytest.approx(1) and one.low * other.high == pytest.approx(1)
        assert one.low <= one.ratio <= one.high and one.disjoint == other.disjoint
        assert one.disjoint == (not one.low <= 1 <= one.high)
