"""Attack: calls that wait on an agent for minutes, by a device with a certificate that then hangs up."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from deployments import Fleet, exported, fleet, images, segments

from jmsnas.deploy.agent import request_handler
from jmsnas.deploy.leader.agent_client import AgentClient
from jmsnas.deploy.parts.shipment import NextHop, PartSpec
from jmsnas.deploy.transport.frame import TensorHeader, pack_message
from jmsnas.deploy.transport.identity import read_identity
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


def connections(mesh: Fleet, device: str) -> list[AgentClient]:
    """Four connections of the device `left` to another one; a connection carries 16 calls."""
    identity = read_identity(mesh.folder / "certs" / "left")
    return [AgentClient(mesh.leader.agents[device], identity) for _ in range(4)]


def start_branches(mesh: Fleet, clients: list[AgentClient], request: Callable[[], str]) -> list[object]:
    """Send only the first branch of 48 requests to the join; a call whose result is dropped is cancelled."""
    shape = exported().shapes[2]
    x = np.zeros(shape, np.float32)
    headers = (TensorHeader(request(), mesh.leader.epoch, "f4", shape) for _ in range(CALLS))
    return [
        clients[n % len(clients)].start(pack_message(header, x.tobytes()), DEADLINE_S)
        for n, header in enumerate(headers)
    ]


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    ends_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends_s
        time.sleep(0.02)


def joining(mesh: Fleet) -> int:
    """Number of requests that wait in the join for a branch."""
    return len(mesh.agents["cloud"].requests._sums._tensors)


def serves(mesh: Fleet) -> bool:
    try:
        return bool(mesh.leader.infer(images(1)[0], 5.0).logits.size)
    except DeployError:
        return False


@pytest.mark.parametrize("request_id", [lambda: secrets.token_hex(16), lambda: "0" * 32])
def test_the_leader_is_served_meanwhile_and_all_others_after_the_caller_has_hung_up(
    mesh: Fleet, request_id: Callable[[], str]
) -> None:
    mesh.leader.ship(mesh_parts(), segments())
    before = mesh.leader.infer(images(1)[0]).logits
    clients = connections(mesh, "cloud")
    waits = start_branches(mesh, clients, request_id)
    wait_until(lambda: joining(mesh) > 0)
    assert mesh.leader.describe()["cloud"].epoch == mesh.leader.epoch
    assert mesh.leader.lost() == []
    mesh.leader.measure_links([("right", "cloud")], [1000], 1)
    mesh.leader.ship(mesh_parts(), segments())
    assert len(waits) == CALLS and joining(mesh) > 0
    for client in clients:
        client.close()
    wait_until(lambda: joining(mesh) == 0)
    wait_until(lambda: serves(mesh))
    np.testing.assert_array_equal(mesh.leader.infer(images(1)[0]).logits, before)


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
    clients = connections(mesh, "cloud")
    waits = start_branches(mesh, clients, lambda: secrets.token_hex(16))
    wait_until(lambda: joining(mesh) > 0)
    wait_until(lambda: joining(mesh) == 0)
    wait_until(lambda: serves(mesh))
    assert len(waits) == CALLS
    for client in clients:
        client.close()


@pytest.mark.parametrize("method", ["Run", "Exchange", "Describe", "Stage", "Put", "Bench"])
def test_calls_that_never_send_their_message(mesh: Fleet, method: str) -> None:
    mesh.leader.ship(mesh_parts(), segments())
    clients, stop = connections(mesh, "cloud"), threading.Event()

    def nothing() -> Iterator[bytes]:
        stop.wait(60)
        yield from ()

    methods = [client._channel.stream_unary(f"/jmsnas.Agent/{method}") for client in clients]
    calls = [methods[n % 4].future(nothing(), timeout=DEADLINE_S) for n in range(CALLS)]
    time.sleep(0.5)
    assert mesh.leader.describe()["cloud"].epoch == mesh.leader.epoch
    mesh.leader.ship(mesh_parts(), segments())
    assert method not in ("Run", "Exchange") or not all(call.done() for call in calls)
    for client in clients:
        client.close()
    stop.set()
    wait_until(lambda: serves(mesh))
