import pytest

from jmsnas.nas.graph.fork_join import MeshTree
from jmsnas.nas.split.placement import LatencyTerm
from jmsnas.report.term_schedule import schedule_terms
from jmsnas.topology import Link


def test_schedule_of_a_chain() -> None:
    terms = (LatencyTerm("a", (1, 2), 2.0, 0.5, 8.0), LatencyTerm("b", (3,), 1.0, 0.0, 0.0, return_s=0.25))
    schedule = schedule_terms(terms, (Link("a", "b", 1e6),))
    assert [(term.symbol, term.start_s, term.end_s) for term in schedule] == [
        ("tau_D^1", 0.0, 2.0),
        ("eps^1", 2.0, 2.5),
        ("tau_D^2", 2.5, 3.5),
        ("back", 3.5, 3.75),
    ]
    assert schedule[1].link and schedule[1].sent_bytes == 8.0 and schedule[3].target == "a"


def test_a_call_is_part_of_its_computation() -> None:
    terms = (
        LatencyTerm("a", (1, 2), 2.0, 0.5, 8.0, call_s=0.25),
        LatencyTerm("b", (3,), 1.0, 0.0, 0.0, call_s=0.5),
    )
    schedule = schedule_terms(terms, (Link("a", "b", 1e6),))
    assert [(term.start_s, term.end_s, term.call_s) for term in schedule] == [
        (0.0, 2.25, 0.25),
        (2.25, 2.75, 0.0),
        (2.75, 4.25, 0.5),
    ]


def test_schedule_of_parallel_branches() -> None:
    """Root 1 s; branches of 1 + 2 + 1 and 2 + 4 + 1 s; the cloud 3 s: 1 + 7 + 3 = 11 s."""
    terms = (
        LatencyTerm("root", (1,), 1.0, 0.0, 0.0),
        LatencyTerm("x", (2,), 2.0, 1.0, 16.0, epsilon_root_s=1.0),
        LatencyTerm("y", (3,), 3.5, 1.0, 16.0, epsilon_root_s=2.0, call_s=0.5),
        LatencyTerm("idle", (), 0.0, 0.0, 0.0),
        LatencyTerm("cloud", (4,), 3.0, 0.0, 0.0),
    )
    names = ("x", "y", "idle")
    links = [Link("root", name, 1e6, 0.0, "float16") for name in names]
    links += [Link(name, "cloud", 1e6) for name in names]
    schedule = schedule_terms(terms, links, MeshTree("root", names), forked_elements=10)
    assert schedule[-1].end_s == 11.0 == sum(term.seconds for term in schedule if term.critical)
    assert [term.symbol for term in schedule if term.critical] == [
        "tau_D^1", "eps^{1->3}", "tau_D^3", "eps^3", "tau_D^5",
    ]  # fmt: skip
    assert [term.branch for term in schedule] == [None, 0, 0, 0, 1, 1, 1, None]
    # Ten numbers as float16.
    assert schedule[1].sent_bytes == 20.0
    with pytest.raises(KeyError):
        schedule_terms(terms, links[1:], MeshTree("root", names))
