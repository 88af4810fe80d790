"""A device may lie: it harms its own part of a deployment, and the leader says so in one line."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from deployments import Fleet, fleet, pieces, segments

from jmsnas.deploy.leader.agent_client import AgentClient
from jmsnas.deploy.leader.leader import Leader
from jmsnas.deploy.transport.channel import SERVICE
from jmsnas.deploy.transport.devices_file import AgentAddress
from jmsnas.deploy.transport.frame import pack_message
from jmsnas.errors import DeployError

DEEP = b"[" * 100_000
Said = Callable[[bytes, Any], bytes]


@contextmanager
def liar(said: Said) -> Iterator[str]:
    """An agent that answers any method with what it is told to; its address."""

    class Anything(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(said)

    server = grpc.server(ThreadPoolExecutor(2), handlers=(Anything(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("fleet"), ("pi4",), plain=True) as found:
        found.leader.ship(pieces((6,), ("pi4",)), segments())
        yield found


def lying(one: Fleet, where: str) -> Leader:
    return Leader(one.folder / "certs" / "leader", {"pi4": AgentAddress("pi4", where, "ab" * 32)}, plain=True)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\xff" * 8,
        pack_message({}),
        pack_message({"epoch": "x"}, b"{}"),
        pack_message({"epoch": 1}, DEEP),
        pack_message({"epoch": 1}, b"[]"),
    ],
)
def test_what_cannot_be_read_is_one_line(one: Fleet, answer: bytes) -> None:
    with liar(lambda message, context: answer) as where:
        leader = lying(one, where)
        for call in (
            lambda: leader.ship(pieces((6,), ("pi4",)), segments()),
            lambda: leader.clients["pi4"].offer(b"{}", b""),
            lambda: leader.clients["pi4"].stage(1),
            lambda: leader.clients["pi4"].link(leader.agents["pi4"], [4, 8], clock=True),
        ):
            with pytest.raises(DeployError, match="device pi4: an answer that cannot be read|did not sign"):
                call()
        leader.close()


def test_a_number_that_was_never_signed_is_not_believed(one: Fleet) -> None:
    # The largest there is would leave none for any later plan, on any device.
    truth = one.leader.clients["pi4"].describe()
    for plan in (truth["plan"], None, {"manifest": '{"epoch": 9007199254740990}', "signature": "00" * 64}):
        told = pack_message({"epoch": 9007199254740990}, json.dumps({"plan": plan}).encode())
        with liar(lambda message, context, told=told: told) as where:
            leader = lying(one, where)
            with pytest.raises(DeployError, match="did not sign: stop its agent|cannot be read"):
                leader.ship(pieces((6,), ("pi4",)), segments())
            leader.close()
    assert one.leader.clients["pi4"].epoch(one.leader._key.public_key()) == one.leader.epoch


def test_its_words_do_not_move_the_cursor(one: Fleet, tmp_path: Path) -> None:
    def abort(message: bytes, context: Any) -> bytes:
        context.abort(grpc.StatusCode.INTERNAL, "device pi4: \x1b[2J\x1b[Hall is well" + "x" * 4000)
        raise AssertionError

    with liar(abort) as where:
        peer = AgentClient(AgentAddress("pi4", where, "ab" * 32), None)
        with pytest.raises(DeployError, match=r"device pi4: \?\[2J\?\[Hall is wellx") as refused:
            peer.describe()
        assert str(refused.value).isprintable() and len(str(refused.value)) < 400
        assert SERVICE not in str(refused.value)
        peer.close()
