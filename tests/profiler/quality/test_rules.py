import math
from dataclasses import replace

import pytest
from gate_tables import a_table, changed, only, place, without_intervals

from jmsnas.profiler.quality.gate import check_quality


@pytest.mark.parametrize("value", [-1e-3, 0.0, math.nan, math.inf])
def test_not_a_number_above_0(value: float) -> None:
    rows = a_table()
    rows[4] = replace(rows[4], median_s=value)
    (found,) = check_quality(rows)
    assert (found.rule, found.severity, found.rows) == ("positive", "error", (("t", 5),))
    assert found.message.startswith("1 rows are not a number above 0; the first is row 5")


def test_larger_kernel_that_is_faster() -> None:
    rows = a_table()
    small, large = (place(rows, f"mb_k{k}_e3_skip 16->16 8x8") for k in (3, 5))
    # k5 to 0.97 of k3: outside intervals of 0.5 % each way, within the 5 % used without intervals.
    rows = changed(rows, large, 0.97 * rows[small].median_s / rows[large].median_s)
    found = only(check_quality(rows), "monotone-kernel")
    assert found.severity == "warning" and found.rows == (("t", small + 1), ("t", large + 1))
    assert "a larger kernel is faster beyond the intervals in 1 of" in found.message
    assert "mb_k5_e3_skip 16->16 8x8 takes" in found.message
    assert check_quality(without_intervals(rows)) == ()
    # and to 0.996: the intervals overlap
    assert check_quality(changed(rows, large, 0.996 / 0.97)) == ()


def test_larger_kernel_in_less_than_half_the_time_is_an_error() -> None:
    rows = a_table()
    small, large = (place(rows, f"mb_k{k}_e3_skip 16->16 8x8") for k in (3, 5))
    rows = changed(rows, large, 0.45 * rows[small].median_s / rows[large].median_s)
    severities = [entry.severity for entry in check_quality(rows) if entry.rule == "monotone-kernel"]
    assert severities == ["error"]


def test_larger_expansion_that_is_faster() -> None:
    rows = a_table()
    small, large = (place(rows, f"mb_k7_e{e} 16->24 8x8 /2") for e in (3, 6))
    found = only(
        check_quality(changed(rows, small, 1.1 * rows[large].median_s / rows[small].median_s)),
        "monotone-expansion",
    )
    assert found.severity == "warning" and "mb_k7_e6 16->24 8x8 /2 takes" in found.message


def test_larger_resolution_that_is_faster() -> None:
    rows = a_table()
    stem = place(rows, next(row.label for row in rows if row.op == "stem"))
    larger = replace(rows[stem], row=99, height=16, width=16, macs=4 * rows[stem].macs)
    assert check_quality([*rows, *changed([larger], 0, 1.01)]) == ()
    found = only(check_quality([*rows, *changed([larger], 0, 0.9)]), "monotone-resolution")
    assert "a larger resolution is faster beyond the intervals in 1 of" in found.message


def test_other_campaign_is_not_compared_by_size() -> None:
    rows = [replace(row, campaign="campaign 0") for row in a_table()]
    fast = [replace(row, table="u", row=row.row + 100) for row in rows]
    fast = [replace(row, median_s=row.median_s / 4, low_s=None, high_s=None) for row in fast]
    assert [entry.rule for entry in check_quality([*rows, *fast]) if entry.rule.startswith("monotone")] == []


def test_identity_slower_than_a_block() -> None:
    rows = a_table()
    identity, block = place(rows, "identity 24->24 4x4"), place(rows, "mb_k3_e3 24->24 4x4")
    found = only(
        check_quality(changed(rows, identity, 1.1 * rows[block].median_s / rows[identity].median_s)),
        "identity",
    )
    assert found.severity == "error" and ("t", identity + 1) in found.rows
    assert "identity is slower than an MBConv of its geometry at 1 geometries" in found.message


def test_throughput_above_the_peak_of_a_known_device() -> None:
    # Raspberry Pi 4: the file's fastest rate is 5.1 GMAC/s, twice that is 10.2; at 11 GMAC/s all is too fast.
    rows = without_intervals(a_table(device="pi4"))
    assert check_quality(rows) == ()
    fast = [replace(row, median_s=row.macs / 11e9) if row.op == "mb" else row for row in rows]
    found = only(check_quality(fast), "throughput")
    assert found.severity == "error" and len(found.rows) == sum(row.op == "mb" for row in rows)
    assert "are above 10.2 GMAC/s, more than the peak of pi4" in found.message
    assert "throughput" not in [
        entry.rule for entry in check_quality([replace(row, threads=2) for row in fast])
    ]


def test_throughput_no_thread_reaches() -> None:
    row = replace(without_intervals(a_table())[1], macs=2e9, median_s=1e-4)
    found = only(check_quality([row]), "throughput")
    assert "1 rows are above 10000 GMAC/s, more than any CPU with 1 thread(s)" in found.message
    assert "2e+04 GMAC/s" in found.message
    assert check_quality([replace(row, device="NVIDIA V100")]) == (), "20 TMAC/s is not absurd for a GPU"


def test_block_measured_twice() -> None:
    rows = a_table()
    (again,) = changed([replace(rows[3], row=54)], 0, 2.18)
    found = only(check_quality([*rows, again]), "duplicate")
    assert found.severity == "error" and found.rows == (("t", 4), ("t", 54))
    assert "1 of 1 blocks measured more than once differ by over 5%" in found.message
    assert "118% more" in found.message
    assert check_quality([*rows, *changed([again], 0, 1.04 / 2.18)]) == ()
    assert "duplicate" not in [entry.rule for entry in check_quality([*rows, replace(again, device="other")])]


def test_campaigns_that_disagree() -> None:
    rows = a_table()
    second = [replace(r, row=r.row + 100, campaign="campaign 1", median_s=r.median_s * 1.19) for r in rows]
    found = check_quality([*(replace(r, campaign="campaign 0") for r in rows), *without_intervals(second)])
    assert [entry.rule for entry in found] == ["duplicate"]
    assert f"{len(rows)} of {len(rows)} blocks" in found[0].message and "19% more" in found[0].message


def test_copy_of_another_devices_table() -> None:
    rows, copy = a_table(), a_table("other", table="u")
    found = only(check_quality([*rows, *copy]), "copied")
    assert found.severity == "error" and len(found.rows) == 2 * len(rows)
    assert (
        f"board and other (u) have identical latencies in {len(rows)} of {len(rows)} common" in found.message
    )
    assert check_quality([*rows, *a_table("other", "laptop-cpu", "u")]) == ()
    assert check_quality([*rows, *a_table(table="u")]) == (), "one device, twice: for `table compare`"
    chance = [rows[0], *a_table("other", "laptop-cpu", "u")[1:]]
    assert check_quality([*rows, *(replace(r, device="other", table="u") for r in chance)]) == ()


def test_copy_of_few_blocks_is_a_warning() -> None:
    rows, other = a_table()[:4], a_table("other", "laptop-cpu", "u")[:4]
    other[0] = replace(other[0], median_s=rows[0].median_s)
    assert only(check_quality([*rows, *other]), "copied").severity == "warning"


def test_one_float_for_many_blocks() -> None:
    rows = without_intervals(a_table())
    filled = [place(rows, f"mb_k{k}_e{e} 32->32 2x2") for k, e in ((3, 3), (5, 6), (7, 6))]
    for index in filled:
        rows[index] = replace(rows[index], median_s=rows[filled[0]].median_s)
    found = only(check_quality(rows), "placeholder")
    assert found.severity == "error" and found.rows == tuple(("t", i + 1) for i in sorted(filled))
    assert "3 different blocks, of" in found.message
    rows[filled[2]] = replace(rows[filled[2]], median_s=rows[filled[2]].median_s * 1.001)
    assert "placeholder" not in [entry.rule for entry in check_quality(rows)]
