from dataclasses import replace

import pytest

from jmsnas.deploy.leader.deadline import PathSums, judge_deadline, path_sums
from jmsnas.deploy.leader.measured_terms import HopTiming
from jmsnas.nas.derivation.target import LatencyTarget

# Device a computes from 1 to 3 s, 1 s on the link, b waits 0.5 s and computes 2 s: T = 6.5 s.
CHAIN = (HopTiming("", "a", 0.0, 0.0, 1.0, 3.0), HopTiming("a", "b", 3.0, 4.0, 4.5, 6.5))
# Root r until 1 s; child x: 1 to 2 s on the link, 2 to 4 s computing, at the join at 5 s; child y is there at
# 7 s: 1 to 3 s on the link, 0.5 s waiting, 2.5 s computing, 1 s on the link. The join computes 8 to 9 s.
MESH = (
    HopTiming("", "r", 0.0, 0.0, 0.0, 1.0),
    HopTiming("r", "x", 1.0, 2.0, 2.0, 4.0),
    HopTiming("x", "join", 4.0, 5.0, 8.0, 9.0),
    HopTiming("r", "y", 1.0, 3.0, 3.5, 6.0),
    HopTiming("y", "join", 6.0, 7.0, 8.0, 9.0),
)


def test_what_a_request_consists_of_adds_up_to_its_latency() -> None:
    assert path_sums(CHAIN) == PathSums(4.0, 1.0, 1.5)
    assert path_sums(MESH) == PathSums(1 + 2.5 + 1, 2 + 1, 0.5 + 1)


def test_a_deadline_is_met_or_missed_by_its_percentile() -> None:
    # T is 6.5 s of 19 requests and 16.5 s of one.
    slow = (CHAIN[0], replace(CHAIN[1], begun_s=14.5, ended_s=16.5))
    requests, trips_s = [CHAIN] * 19 + [slow], [7.0] * 20
    target = LatencyTarget(6.6, 1.0, 10.0)
    median = judge_deadline(target, 6.0, requests, trips_s)
    assert median.met and median.judged_s == 6.5 and median.promised_s == 6.0
    assert (median.sums, median.rest_s) == (PathSums(4.0, 1.0, 1.5), 0.0)
    assert median.verdict == (
        "Deadline met: p50 of T is 6.5 s, 100 ms (1.5%) below T_const = 6.6 s; the search promised T = 6 s"
    )
    # The search left 0.4 s for the 99th percentile of T, of a deadline of 7 s.
    strict = judge_deadline(replace(target, percentile=99, margin_s=0.4), 6.0, requests, trips_s)
    assert not strict.met and strict.t_const_s == pytest.approx(7.0)
    # 16.5 s less 0.19 of the 10 s between the two largest values.
    assert strict.judged_s == strict.latency.p99 == pytest.approx(14.6)
    assert strict.verdict.startswith(
        "Deadline MISSED: p99 of T is 14.6 s, 7.6 s (108.6%) above T_const = 7 s"
    )
    emulated = judge_deadline(target, 6.0, requests, trips_s, emulated=True)
    assert emulated.verdict.endswith("(emulated devices or links: no measurement)")
