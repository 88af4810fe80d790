import numpy as np
import pytest

from jmsnas.deploy.leader.leader import Response
from jmsnas.deploy.leader.measured_terms import HopTiming, hop_timings, measured_latency_s, measured_terms
from jmsnas.deploy.transport.link import MeasuredLink
from jmsnas.deploy.transport.run_response import DeviceSpan
from jmsnas.errors import DeployError


def link(source: str, target: str, offset_ns: int = 0) -> MeasuredLink:
    return MeasuredLink(source, target, 1e-3, 1e-7, offset_ns, 0, (), ())


def test_chain_trail_on_one_clock() -> None:
    # b's clock is 1 s ahead of a's: received at 2 ms by a's clock.
    trail = (
        DeviceSpan("a", 0, 0, 1_000_000),
        DeviceSpan("b", 1_002_000_000, 1_002_500_000, 1_003_000_000),
    )
    links = {("a", "b"): link("a", "b", 1_000_000_000)}
    response = Response(np.zeros(1, np.float32), trail, 1, 5e-3)
    first, second = hop_timings(response, links)
    assert first == HopTiming("", "a", 0.0, 0.0, 0.0, 1e-3)
    assert (second.source, second.device, second.sent_s) == ("a", "b", 1e-3)
    assert [second.received_s, second.begun_s, second.ended_s] == pytest.approx([2e-3, 2.5e-3, 3e-3])
    assert measured_latency_s(response, links) == pytest.approx(3e-3)


def test_mesh_trail_has_an_entry_for_each_branch() -> None:
    ms = 1_000_000
    trail = (
        DeviceSpan("r", 0, 0, ms),
        DeviceSpan("x", 2 * ms, 2 * ms, 3 * ms),
        DeviceSpan("j", 4 * ms, 7 * ms, 8 * ms),
        DeviceSpan("y", 2 * ms, 2 * ms, 5 * ms),
        DeviceSpan("j", 7 * ms, 7 * ms, 8 * ms),
    )
    links = {pair: link(*pair) for pair in (("r", "x"), ("r", "y"), ("x", "j"), ("y", "j"))}
    response = Response(np.zeros(1, np.float32), trail, 1, 1e-2)
    hops = hop_timings(response, links)
    assert [(hop.source, hop.device) for hop in hops] == [
        ("", "r"),
        ("r", "x"),
        ("x", "j"),
        ("r", "y"),
        ("y", "j"),
    ]
    terms = measured_terms([response] * 3, links, {"x": 2e-3}, {("x", "j"): 5e-4}, held=("r",))
    by_name = {(term.kind, term.where): term for term in terms}
    assert by_name["send", "x -> j"].ratio == pytest.approx(2.0)
    assert by_name["compute", "x"].ratio == pytest.approx(0.5)
    # A join that waits for the other branch is not counted as a wait for the processor.
    assert by_name["wait", "j"].measured_s == 0.0
    assert by_name["compute", "r"].held and by_name["compute", "r"].ratio is None


@pytest.mark.parametrize("offset_s", [3600.0, -3600.0, 0.3, -0.3])
def test_absurd_times_of_a_device_are_refused(offset_s: float) -> None:
    # a, b and c run one after another within 5 ms; b's clock is not the one that was measured.
    ms = 1_000_000
    wrong = int(offset_s * 1e9) + 10**13
    trail = tuple(
        DeviceSpan(name, at + when * ms, at + when * ms, at + (when + 1) * ms)
        for name, when, at in (("a", 0, 10**13), ("b", 1, wrong), ("c", 2, 10**13))
    )
    links = {pair: link(*pair) for pair in (("a", "b"), ("b", "c"))}
    response = Response(np.zeros(1, np.float32), trail, 1, 5e-3)
    with pytest.raises(DeployError, match="device [bc] reports that it received data"):
        measured_terms([response], links, {}, {})
