import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from deployments import DEVICES, Fleet, exported, fleet, images, pieces, segments, start_agent

from jmsnas.deploy.leader.agent_client import DeviceLostError
from jmsnas.deploy.leader.leader import ImageEncoding
from jmsnas.errors import DeployError


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three agents with mutual TLS and a leader, whose plan serves."""
    with fleet(tmp_path_factory.mktemp("fleet")) as found:
        found.leader.ship(pieces(), segments())
        yield found


def test_logits_equal_those_of_the_undivided_model(three: Fleet) -> None:
    three.leader.ship(pieces(), segments())
    for x in images(5):
        answer = three.leader.infer(x)
        np.testing.assert_allclose(answer.logits, exported().run(x), atol=1e-4)
        assert [stop.device for stop in answer.trail] == list(DEVICES)
        assert all(stop.received_ns <= stop.started_ns <= stop.ended_ns for stop in answer.trail)


@pytest.mark.parametrize("cuts", [(1, 1, 6), (0, 6, 6), (0, 0, 6), (6, 6, 6), (2, 3, 6)])
def test_every_split_gives_the_same(three: Fleet, cuts: tuple[int, ...]) -> None:
    # Layer 3 is Identity: a part with it alone is a relay.
    three.leader.ship(pieces(cuts), segments())
    (x,) = images(1)
    answer = three.leader.infer(x)
    np.testing.assert_allclose(answer.logits, exported().run(x), atol=1e-4)
    ran = [device for device, start, cut in zip(DEVICES, (0, *cuts), cuts, strict=False) if cut > start]
    assert [stop.device for stop in answer.trail][-1] == ran[-1]


def test_only_changed_blobs_are_sent(three: Fleet) -> None:
    three.leader.ship(pieces((1, 4, 6)), segments())
    again = three.leader.ship(pieces((1, 4, 6)), segments())
    assert again == {"pi4": 0, "laptop": 0, "cloud": 0}
    moved = three.leader.ship(pieces((2, 4, 6)), segments())
    assert moved["cloud"] == 0 and moved["pi4"] > 0 and moved["laptop"] > 0


def test_relays_pass_a_uint8_image_unchanged(three: Fleet) -> None:
    three.leader.ship(pieces((0, 0, 6), wires=("uint8", "uint8", "float32")), segments())
    grid = np.random.default_rng(0).integers(0, 17, (1, 1, 8, 8)).astype(np.float32) / 8 - 1
    answer = three.leader.infer(grid, encoding=ImageEncoding("u1", 1 / 8, -1.0))
    np.testing.assert_allclose(answer.logits, exported().run(grid), atol=1e-4)


@pytest.mark.parametrize(("wire", "error"), [("float16", 2e-2), ("uint8", 0.5)])
def test_narrow_wire_formats_change_logits_little(three: Fleet, wire: str, error: float) -> None:
    three.leader.ship(pieces(wires=(wire,) * 3), segments())
    (x,) = images(1)
    difference = np.abs(three.leader.infer(x).logits - exported().run(x)).max()
    assert 0 < difference < error


def test_links_and_clocks_are_measured(three: Fleet) -> None:
    links = three.leader.measure_links([("pi4", "laptop"), ("laptop", "cloud")], [1000, 100_000], rounds=6)
    assert set(links) == {("pi4", "laptop"), ("laptop", "cloud")}
    for link in links.values():
        assert link.offset_ns == 0  # one host, one clock
        assert 0 < link.epsilon_s(1000) < 0.1 and link.sizes == (1000, 100_000)
    offset_ns, round_trip_ns = three.leader.clients["cloud"].clock()
    assert abs(offset_ns) <= round_trip_ns


def test_agents_describe_their_devices(three: Fleet) -> None:
    infos = three.leader.describe()
    assert set(infos) == set(DEVICES) and infos["pi4"].epoch == three.leader.epoch
    assert {"jmsnas", "onnxruntime", "numpy", "python"} <= set(infos["pi4"].versions)


def test_an_old_plan_is_refused_with_the_newest_number(three: Fleet) -> None:
    first, second = three.new_leader(), three.new_leader()
    first.ship(pieces(), segments())
    second.ship(pieces(), segments())
    second.ship(pieces(), segments())
    with pytest.raises(DeployError, match=rf"plan {first.epoch} is not served .*{second.epoch}"):
        first.infer(images(1)[0])
    for leader in (first, second):
        leader.close()


def test_a_request_before_the_first_plan_is_refused(three: Fleet) -> None:
    leader = three.new_leader()
    with pytest.raises(DeployError, match="no plan was shipped yet"):
        leader.infer(images(1)[0])
    leader.close()


def test_a_lost_device_is_named_and_returns(tmp_path: Path) -> None:
    with fleet(tmp_path) as three:
        three.leader.ship(pieces(), segments())
        (x,) = images(1)
        before = three.leader.infer(x)
        where = three.agents["laptop"].address
        three.agents["laptop"].stop(0)
        with pytest.raises(DeviceLostError, match="device laptop: UNAVAILABLE") as lost:
            three.leader.infer(x, timeout_s=3)
        assert lost.value.device == "laptop" and three.leader.lost() == ["laptop"]
        three.agents["laptop"], _ = start_agent(tmp_path, "laptop", listen=where)
        assert three.leader.lost() == []
        # Its part was on its disk, and serves.
        answer = None
        for _ in range(600):
            try:
                answer = three.leader.infer(x)
                break
            except DeviceLostError:  # its neighbour connects again within a second
                time.sleep(0.1)
        assert answer is not None
        np.testing.assert_array_equal(answer.logits, before.logits)


def test_plain_on_loopback_gives_the_same(tmp_path: Path, three: Fleet) -> None:
    with fleet(tmp_path, plain=True) as plain:
        plain.leader.ship(pieces(), segments())
        three.leader.ship(pieces(), segments())
        (x,) = images(1)
        np.testing.assert_array_equal(plain.leader.infer(x).logits, three.leader.infer(x).logits)
