"""Attack: calls that wait on an agent for minutes, by a device with a certificate that then hangs up."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from data_peers import wait_until
from deployments import Fleet, exported, fleet, images, segments

from jmsnas.deploy.agent import request_handler
from jmsnas.deploy.leader.agent_client import target_of
from jmsnas.deploy.parts.shipment import NextHop, PartSpec
from jmsnas.deploy.transport.channel import MAX_IN_FLIGHT_PER_CALLER, open_channel
from jmsnas.deploy.transport.data_link import Answer, DataLink
from jmsnas.deploy.transport.frame import Frame, Kind, TensorSpec, pack_head
from jmsnas.deploy.transport.identity import read_identity
from jmsnas.deploy.transport.liveness import Liveness
from jmsnas.deploy.transport.refusal import RequestRefusedError
from jmsnas.deploy.transport.tls import connect
from jmsnas.errors import DeployError

MESH = ("pi4", "left", "right", "cloud")
CALLS, DEADLINE_S = 48, 600.0


def mesh_parts(branches: tuple[str, ...] = ("left", "right")) -> tuple[PartSpec, ...]:
    """Two layers, two branches that only forward, and a join of both; the first sends to `branches`."""
    children = (
        PartSpec(name, "chain", 3, 2, (NextHop("cloud", "float32", branch),))
        for branch, name in enumerate(("left", "right"))
    )
    hops = tuple(NextHop(name, "float32") for name in branches)
    return (
        PartSpec("pi4", "chain", 1, 2, hops),
        *children,
        PartSpec("cloud", "chain", 3, 6, (), joined=2),
    )


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("mesh"), MESH) as four:
        yield four


@pytest.fixture(autouse=True)
def no_join_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the end of the caller can end a wait within the time of a test."""
    monkeypatch.setattr(request_handler, "_JOIN_S", DEADLINE_S)


@contextmanager
def connections(mesh: Fleet, device: str) -> Iterator[list[DataLink]]:
    """Four links of the device `left` to another one."""
    identity, liveness = read_identity(mesh.folder / "certs" / "left"), Liveness()
    target = target_of(mesh.leader.agents[device])
    links = [DataLink(target, lambda: identity, liveness) for _ in range(4)]
    yield links
    for link in links:
        link.close()
    liveness.close()


def start_branches(mesh: Fleet, links: list[DataLink], request: Callable[[], bytes]) -> list[Answer]:
    """Send only the first branch of 48 requests to the join; return the list of their answers."""
    shape, answers = exported().shapes[2], list[Answer]()
    deadline_s, body = time.monotonic() + DEADLINE_S, np.zeros(shape, np.float32).tobytes()
    for n in range(CALLS):
        tensors = (TensorSpec("f4", shape),)
        frame = Frame(Kind.RUN, epoch=mesh.leader.epoch, id=request(), tensors=tensors, body=body)
        links[n % len(links)].request(frame, deadline_s, answers.append, 1 << 20)
    return answers


def joining(mesh: Fleet) -> int:
    """Number of requests that wait in the join for a branch."""
    return len(mesh.agents["cloud"].requests._joins)


def serves(mesh: Fleet) -> bool:
    try:
        return bool(mesh.leader.infer(images(1)[0], 5.0).logits.size)
    except DeployError:
        return False


@pytest.mark.parametrize("request_id", [lambda: secrets.token_bytes(16), lambda: bytes(16)])
def test_the_leader_is_served_meanwhile_and_all_others_after_the_caller_has_hung_up(
    mesh: Fleet, request_id: Callable[[], bytes]
) -> None:
    mesh.leader.ship(mesh_parts(), segments())
    before = mesh.leader.infer(images(1)[0], 60.0).logits
    with connections(mesh, "cloud") as links:
        answers = start_branches(mesh, links, request_id)
        wait_until(lambda: joining(mesh) > 0)
        # More than one device may have in flight are refused at once.
        wait_until(lambda: len(answers) == CALLS - MAX_IN_FLIGHT_PER_CALLER)
        assert all(isinstance(found, RequestRefusedError) for found in answers)
        assert mesh.leader.describe()["cloud"].epoch == mesh.leader.epoch
        assert mesh.leader.lost() == []
        mesh.leader.measure_links([("right", "cloud")], [1000], 1)
        mesh.leader.ship(mesh_parts(), segments())
        assert joining(mesh) > 0
    wait_until(lambda: joining(mesh) == 0)
    wait_until(lambda: mesh.agents["cloud"].requests.in_flight == 0)
    wait_until(lambda: serves(mesh))
    np.testing.assert_array_equal(mesh.leader.infer(images(1)[0], 60.0).logits, before)


def test_waits_end_along_the_whole_way(mesh: Fleet) -> None:
    mesh.leader.ship(mesh_parts(("left",)), segments())  # the join waits for the branch of `right`
    leader = mesh.new_leader()
    leader._plan = mesh.leader._plan
    waits = [leader.start(images(1)[0], DEADLINE_S) for _ in range(16)]
    wait_until(lambda: joining(mesh) == len(waits))
    leader.close()
    wait_until(lambda: joining(mesh) == 0)
    mesh.leader.ship(mesh_parts(), segments())
    wait_until(lambda: serves(mesh))


def test_a_join_has_a_deadline_of_its_own(mesh: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_handler, "_JOIN_S", 0.2)
    mesh.leader.ship(mesh_parts(), segments())
    with connections(mesh, "cloud") as links:
        answers = start_branches(mesh, links, lambda: secrets.token_bytes(16))
        wait_until(lambda: len(answers) == CALLS)
        texts = {str(found) for found in answers if isinstance(found, RequestRefusedError)}
        assert "device cloud: the deadline passed before all branches arrived" in texts
        wait_until(lambda: joining(mesh) == 0)
        wait_until(lambda: serves(mesh))


@pytest.mark.parametrize("method", ["Describe", "Stage", "Put", "Bench"])
def test_calls_that_never_send_their_message(mesh: Fleet, method: str) -> None:
    mesh.leader.ship(mesh_parts(), segments())
    identity, stop = read_identity(mesh.folder / "certs" / "left"), threading.Event()
    channels = [open_channel(mesh.leader.agents["cloud"].address, "cloud", identity) for _ in range(4)]

    def nothing() -> Iterator[bytes]:
        stop.wait(60)
        yield from ()

    methods = [channel.stream_unary(f"/jmsnas.Agent/{method}") for channel in channels]
    calls = [methods[n % 4].future(nothing(), timeout=DEADLINE_S) for n in range(CALLS)]
    time.sleep(0.5)
    assert mesh.leader.describe()["cloud"].epoch == mesh.leader.epoch
    mesh.leader.ship(mesh_parts(), segments())
    assert len(calls) == CALLS
    for channel in channels:
        channel.close()
    stop.set()
    wait_until(lambda: serves(mesh))


def test_bodies_that_never_end(mesh: Fleet) -> None:
    mesh.leader.ship(mesh_parts(), segments())
    identity = read_identity(mesh.folder / "certs" / "left")
    target = target_of(mesh.leader.agents["cloud"])
    shape = exported().shapes[2]
    tensors, body = (TensorSpec("f4", shape),), np.zeros(shape, np.float32).tobytes()
    head = pack_head(Frame(Kind.RUN, 1, mesh.leader.epoch, bytes(16), DEADLINE_S, 0, tensors, b"", body))
    sockets = [connect(target.address, "cloud", target.fingerprint, identity) for _ in range(12)]
    for one in sockets:
        one.sendall(head)
    wait_until(lambda: mesh.agents["cloud"].requests.in_flight >= len(sockets))
    assert mesh.leader.infer(images(1)[0], 60.0).logits.size  # they fill no queue
    for one in sockets:
        one.close()
    wait_until(lambda: mesh.agents["cloud"].requests.in_flight == 0)
