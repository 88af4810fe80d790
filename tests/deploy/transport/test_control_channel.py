"""The leader's channel to the control port; impostors and renewals: tests/prove/test_a7, test_a19."""

import threading
from collections.abc import Iterator

import grpc
import pytest
from deployments import Fleet, fleet
from msgspec.structs import replace
from prove.proxy import Proxy

from jmsnas.deploy.leader.leader import Leader
from jmsnas.deploy.transport.channel import Identity
from jmsnas.deploy.transport.control_channel import ControlChannel
from jmsnas.deploy.transport.data_link import Target
from jmsnas.deploy.transport.identity import read_identity
from jmsnas.deploy.transport.message import pack_message
from jmsnas.deploy.transport.refusal import RequestRefusedError


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("fleet"), ("pi4",)) as found:
        yield found


def describe(channel: grpc.Channel) -> bytes:
    return bytes(channel.unary_unary("/jmsnas.Agent/Describe")(pack_message({}), timeout=20))


def channel_to(one: Fleet, **changes: str) -> ControlChannel:
    name, address, pin = (
        getattr(one.leader.agents["pi4"], key) for key in ("name", "address", "fingerprint")
    )
    target = replace(Target(name, address, pin), **changes)
    identity: Identity = read_identity(one.folder / "certs" / "leader")
    return ControlChannel(target, identity)


def test_a_call_by_a_checked_key(one: Fleet) -> None:
    channel = channel_to(one)
    assert b"pi4" in channel.call(describe)
    channel.close()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"fingerprint": "ab" * 32}, r"its key is [0-9a-f]{12}, expected abababababab: check devices.toml"),
        ({"name": "cloud"}, "Hostname mismatch"),
        ({"address": "127.0.0.1:1"}, "Connection refused"),
        ({"address": "nowhere"}, "ValueError"),
    ],
)
def test_no_call_without_it(one: Fleet, changes: dict[str, str], error: str) -> None:
    channel = channel_to(one, **changes)
    with pytest.raises(RequestRefusedError, match=rf"^device (pi4|cloud): UNAVAILABLE \(.*{error}"):
        channel.call(describe)
    channel.close()


def test_a_slow_handshake_is_no_error(one: Fleet) -> None:
    proxy = Proxy(one.leader.agents["pi4"])
    leader = Leader(one.folder / "certs" / "leader", {"pi4": proxy.address})
    client = leader.clients["pi4"]
    for _ in range(2):  # the second time it connects again by a channel that it has
        proxy.late_answers.set()
        threading.Timer(0.5, proxy.late_answers.clear).start()
        assert client.describe().name == "pi4"
        proxy.cut()
        while client.healthy(0.001):
            pass
    leader.close()
    proxy.close()
