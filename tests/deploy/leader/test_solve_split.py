from dataclasses import replace

import pytest
from roofline_predictor import Roofline

from jmsnas.deploy.leader.serving_overhead import ServingOverhead
from jmsnas.deploy.leader.solve_split import repredict, single_model_space, solve_split
from jmsnas.deploy.transport.link import MeasuredLink
from jmsnas.profiler.simulation.roofline import load_simulated_device
from jmsnas.space import IDENTITY, Block
from jmsnas.space_file import load_space
from jmsnas.topology import load_topology

TOPOLOGY = load_topology("chain")
NAMES = [device.name for device in TOPOLOGY.devices]
PREDICTORS = {device.name: Roofline(load_simulated_device(device.table)) for device in TOPOLOGY.devices}
LINKS = {
    pair: MeasuredLink(*pair, 1e-3, 8 / 25e6, 0, 0, (), ()) for pair in zip(NAMES, NAMES[1:], strict=False)
}


def test_measured_calls_take_part_in_the_choice_of_the_split() -> None:
    own = load_space("digits")
    space = single_model_space(
        own, [Block(choices[0], layer) for choices, layer in zip(own.choices, own.layers, strict=True)]
    )
    relay = replace(TOPOLOGY, policy="stop-early")
    links = {pair: replace(link, a_s=1e-6, b_s=1e-12) for pair, link in LINKS.items()}
    served = {name: ServingOverhead(0.0) for name in NAMES} | {"cloud": ServingOverhead(10.0)}
    free = solve_split(space, relay, PREDICTORS, links)
    assert "cloud" in free.tau_s
    found = solve_split(space, relay, PREDICTORS, links, overheads=served)
    assert "cloud" not in found.tau_s and found.latency_s < 10
    # Without a measurement, the topology's.
    devices = (*relay.devices[:3], replace(relay.devices[3], call_s=10.0))
    declared = solve_split(space, replace(relay, devices=devices), PREDICTORS, links)
    assert declared.placement == found.placement
    forced = solve_split(space, replace(relay, devices=devices), PREDICTORS, links, (0, 0, 0, space.N))
    assert forced.tau_s["cloud"] > 10


def test_a_part_of_identities_has_no_call_overhead() -> None:
    own = load_space("digits")
    where = next(n for n, choices in enumerate(own.choices) if IDENTITY in choices)
    blocks = [
        Block(IDENTITY if n == where else choices[0], layer)
        for n, (choices, layer) in enumerate(zip(own.choices, own.layers, strict=True))
    ]
    space = single_model_space(own, blocks)
    # The identity alone on the second device; the third computes what follows.
    cuts = (where, where + 1, where + 2, space.N)
    assert blocks[where + 1].candidate != IDENTITY
    served = {name: ServingOverhead(5e-4, 1.0) for name in NAMES}
    plain = solve_split(space, TOPOLOGY, PREDICTORS, LINKS, cuts)
    paid = repredict(space, plain, PREDICTORS, LINKS, served)
    assert plain.tau_s[NAMES[1]] == paid.tau_s[NAMES[1]] == 0
    for name in (NAMES[0], *NAMES[2:]):
        assert paid.tau_s[name] == pytest.approx(plain.tau_s[name] + 5e-4, rel=1e-12)
    # Three of the four devices are called.
    assert paid.latency_s == pytest.approx(plain.latency_s + 3 * 5e-4, rel=1e-12)


def test_an_identity_next_to_a_block_is_part_of_its_call() -> None:
    own = load_space("digits")
    blocks = [
        Block(IDENTITY if IDENTITY in choices else choices[0], layer)
        for choices, layer in zip(own.choices, own.layers, strict=True)
    ]
    space = single_model_space(own, blocks)
    topology = replace(TOPOLOGY, devices=TOPOLOGY.devices[:1], links=())
    found = solve_split(space, topology, PREDICTORS, {}, (space.N,), {NAMES[0]: ServingOverhead(5e-4, 1.0)})
    tau_s = PREDICTORS[NAMES[0]].predict_s(blocks).sum()
    assert found.tau_s[NAMES[0]] == pytest.approx(tau_s + 5e-4, rel=1e-12)


def test_a_serial_root_sends_in_the_order_of_the_plan() -> None:
    topology = replace(load_topology("mesh"), fan_out="serial")
    own = load_space("digits", branches=3)
    space = single_model_space(
        own, [Block(choices[0], layer) for choices, layer in zip(own.choices, own.layers, strict=True)]
    )
    predictors = {d.name: Roofline(load_simulated_device(d.table)) for d in topology.devices}
    # The third child is far behind: it is sent to first.
    links = {
        (k.source, k.target): MeasuredLink(
            k.source, k.target, 0.5 if k.source == "mbs3" else 1e-3, 8 / k.capacity_bps, 0, 0, (), ()
        )
        for k in topology.links
    }
    found = solve_split(space, topology, predictors, links)
    (root,) = [part for part in found.part_specs if part.device == topology.root]
    assert root.next_hops[0].device == "mbs3" and root.next_hops[0].wait_s == 0
    arrived_s = 0.0
    for hop in root.next_hops:
        assert hop.wait_s == pytest.approx(arrived_s, rel=1e-12)
        arrived_s = found.epsilon_s[topology.root, hop.device]
    assert arrived_s > 2 * links[topology.root, "mbs1"].a_s
    broadcast = solve_split(space, replace(topology, fan_out="broadcast"), predictors, links)
    assert found.latency_s >= broadcast.latency_s
    assert not any(hop.wait_s for part in broadcast.part_specs for hop in part.next_hops)
    # Predicted again with new terms, the order stays that of the parts that are shipped.
    again = repredict(space, found, predictors, links, {})
    assert [hop.device for part in again.part_specs for hop in part.next_hops] == [
        hop.device for part in found.part_specs for hop in part.next_hops
    ]
