"""Malformed or false responses of a device: the leader raises a one-line error."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest
from deployments import Fleet, fleet, pieces, segments

from jmsnas.deploy.leader.agent_client import AgentClient
from jmsnas.deploy.leader.leader import Leader
from jmsnas.deploy.transport.channel import SERVICE
from jmsnas.deploy.transport.devices_file import AgentAddress
from jmsnas.deploy.transport.frame import VERSION
from jmsnas.deploy.transport.liveness import Liveness
from jmsnas.deploy.transport.message import pack_message
from jmsnas.errors import DeployError

DEEP = b"[" * 100_000
Respond = Callable[[bytes, Any], bytes]


@contextmanager
def liar(respond: Respond) -> Iterator[str]:
    """Start an agent that responds to any method by `respond`; gives its address."""

    class Anything(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(respond)

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
def test_a_malformed_response_is_a_one_line_error(one: Fleet, answer: bytes) -> None:
    with liar(lambda message, context: answer) as where:
        leader = lying(one, where)
        for call in (
            lambda: leader.ship(pieces((6,), ("pi4",)), segments()),
            lambda: leader.clients["pi4"].offer(b"{}", b""),
            lambda: leader.clients["pi4"].stage(1),
            lambda: leader.clients["pi4"].link(leader.agents["pi4"], [4, 8], clock=True),
        ):
            with pytest.raises(DeployError, match="device pi4: malformed response|did not sign"):
                call()
        leader.close()


def test_an_unsigned_plan_number_is_refused(one: Fleet) -> None:
    # The largest number would leave none for any later plan, on any device.
    info = msgspec.to_builtins(one.leader.clients["pi4"].describe())
    unsigned = {"manifest": '{"epoch": 9007199254740990}', "signature": "00" * 64}
    cases = {"did not sign: stop its agent": [info["plan"], unsigned], "malformed response": [None]}
    for refused, plan in [(refused, plan) for refused, plans in cases.items() for plan in plans]:
        body = json.dumps(info | {"epoch": 9007199254740990, "plan": plan}).encode()
        with liar(lambda message, context, body=body: pack_message({}, body)) as where:
            leader = lying(one, where)
            with pytest.raises(DeployError, match=refused):
                leader.ship(pieces((6,), ("pi4",)), segments())
            leader.close()
    assert one.leader.clients["pi4"].epoch(one.leader._key.public_key()) == one.leader.epoch


@pytest.mark.parametrize(("data", "where"), [(..., "there"), (0, "there"), (VERSION + 1, "here")])
def test_an_agent_of_another_data_plane_is_named(one: Fleet, data: Any, where: str) -> None:
    info = msgspec.to_builtins(one.leader.clients["pi4"].describe()) | {"data": data}
    body = json.dumps({key: value for key, value in info.items() if value is not ...}).encode()
    version = 0 if data is ... else data
    with liar(lambda message, context: pack_message({}, body)) as address:
        leader = lying(one, address)
        expected = f"^device pi4: its jmsnas sends tensors by version {version} of the data plane, expected "
        with pytest.raises(DeployError, match=f"{expected}{VERSION}: update jmsnas {where}$"):
            leader.ship(pieces((6,), ("pi4",)), segments())
        leader.close()


def test_control_characters_of_an_error_are_removed(one: Fleet, tmp_path: Path) -> None:
    def abort(message: bytes, context: Any) -> bytes:
        context.abort(grpc.StatusCode.INTERNAL, "device pi4: \x1b[2J\x1b[Hall is well" + "x" * 4000)
        raise AssertionError

    with liar(abort) as where:
        peer = AgentClient(AgentAddress("pi4", where, "ab" * 32), None, Liveness())
        with pytest.raises(DeployError, match=r"device pi4: \?\[2J\?\[Hall is wellx") as refused:
            peer.describe()
        assert str(refused.value).isprintable() and len(str(refused.value)) < 400
        assert SERVICE not in str(refused.value)
        peer.close()
