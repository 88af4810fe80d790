"""A7: peers without a valid certificate are refused before any handler runs."""

import contextlib
import datetime
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from deployments import Fleet, fleet, images, pieces, segments
from prove.proof import Proof
from prove.proxy import Proxy

from jmsnas.deploy.agent import service
from jmsnas.deploy.agent.agent import Agent, AgentSettings
from jmsnas.deploy.agent.part_lifecycle import AgentParts
from jmsnas.deploy.agent.request_handler import Call, RequestHandler
from jmsnas.deploy.leader.agent_client import target_of
from jmsnas.deploy.leader.leader import Leader
from jmsnas.deploy.transport.certificates import _authority, _builder, _certify, _key
from jmsnas.deploy.transport.channel import CLIENT_OPTIONS, SERVICE, Identity, open_channel
from jmsnas.deploy.transport.data_link import DataLink
from jmsnas.deploy.transport.frame import Frame, Kind, TensorSpec, pack_head
from jmsnas.deploy.transport.identity import fingerprint, read_identity
from jmsnas.deploy.transport.liveness import Liveness
from jmsnas.deploy.transport.message import pack_message
from jmsnas.deploy.transport.refusal import RequestRefusedError
from jmsnas.errors import DeployError

entered: list[str] = []


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("fleet")) as found:
        found.leader.ship(pieces(), segments())
        yield found


@pytest.fixture(autouse=True)
def handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Record the handlers that are called."""
    entered.clear()
    for owner, name in ((AgentParts, "offer"), (RequestHandler, "run"), (service, "measure_link")):
        monkeypatch.setattr(owner, name, lambda *_, name=name: entered.append(name))


def trusted_by_nobody(three: Fleet, **more: object) -> Identity:
    ca = trustme.CA()
    made = ca.issue_cert("leader.jmsnas", **more)
    chain = b"".join(pem.bytes() for pem in made.cert_chain_pems)
    own = read_identity(three.folder / "certs" / "leader")
    return Identity("leader", own.ca_pem, chain, made.private_key_pem.bytes())


def own_identity(three: Fleet, name: str) -> Identity:
    return read_identity(three.folder / "certs" / name)


def expired(three: Fleet) -> Identity:
    """An expired certificate of our own CA."""
    folder = three.folder / "certs"
    ca, ca_key = _authority(folder)
    own, key = own_identity(three, "leader"), _key(folder / "leader" / "device.key")
    builder = _builder(ca.subject, ca.subject, key.public_key(), 1, is_ca=False)
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=3)
    builder._not_valid_before, builder._not_valid_after = then, then + datetime.timedelta(days=1)
    return replace(own, certificate_pem=builder.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.PEM))


PEERS: dict[str, Callable[[Fleet], Identity]] = {
    "a foreign CA": lambda three: trusted_by_nobody(three),
    "an expired certificate": expired,
    "a device that is not the leader": lambda three: own_identity(three, "cloud"),
}
CALLS = {
    "Offer": pack_message({"signature": "00"}),
    "Link": pack_message({}),
    "Stage": pack_message({"epoch": 1}),
    "Describe": pack_message({}),
}


@pytest.mark.parametrize("peer", PEERS)
def test_work_from_a_wrong_peer(three: Fleet, proof: Proof, peer: str) -> None:
    address = three.leader.agents["pi4"]
    channel = open_channel(address.address, "pi4", PEERS[peer](three))
    for name, message in CALLS.items():
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(f"/{SERVICE}/{name}")(message, timeout=3)
        assert refused.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED)
    channel.close()
    assert not entered
    proof.show(f"{peer}: refused")


@pytest.mark.parametrize("how", ["plaintext", "no certificate"])
def test_no_certificate_at_all(three: Fleet, proof: Proof, how: str) -> None:
    address, own = three.leader.agents["pi4"], own_identity(three, "leader")
    if how == "plaintext":
        channel = grpc.insecure_channel(address.address, CLIENT_OPTIONS)
    else:
        named = (("grpc.ssl_target_name_override", "pi4.jmsnas"),)
        channel = grpc.secure_channel(address.address, grpc.ssl_channel_credentials(own.ca_pem), named)
    for name, message in CALLS.items():
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(f"/{SERVICE}/{name}")(message, timeout=3)
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    channel.close()
    assert not entered
    proof.show(f"{how}: refused")


def test_an_agent_of_another_name_gets_nothing(three: Fleet, proof: Proof) -> None:
    # The leader connects to cloud, and pi4 is at its address.
    channel = open_channel(three.leader.agents["pi4"].address, "cloud", own_identity(three, "leader"))
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(f"/{SERVICE}/Describe")(pack_message({}), timeout=3)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    channel.close()
    proof.show("wrong name behind an address: nothing is sent")


def request(three: Fleet, device: str, identity: Identity | None) -> RequestRefusedError:
    """Send a request to the data port of a device, and return the refusal."""
    (x,), liveness = images(1), Liveness()
    frame = Frame(Kind.RUN, epoch=three.leader.epoch, tensors=(TensorSpec("f4", x.shape),), body=x.tobytes())
    link = DataLink(target_of(three.leader.agents[device]), lambda: identity, liveness)
    with pytest.raises(RequestRefusedError) as refused:
        link.wait(frame, 10.0, 1 << 20)()
    link.close()
    liveness.close()
    return refused.value


@pytest.mark.parametrize("peer", PEERS)
def test_requests_from_a_wrong_peer(three: Fleet, proof: Proof, peer: str) -> None:
    refused = request(three, "pi4", PEERS[peer](three))
    assert refused.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED)
    assert "pi4" in str(refused) and not entered
    proof.show(f"requests of {peer}: refused")


@pytest.mark.parametrize("how", ["plaintext", "no certificate"])
def test_requests_without_a_certificate(three: Fleet, proof: Proof, how: str) -> None:
    address, own = three.leader.agents["pi4"], own_identity(three, "leader")
    context = ssl.create_default_context(cadata=own.ca_pem.decode())
    host, _, port = address.data_address.rpartition(":")
    frame = Frame(Kind.EXCHANGE, 1, tensors=(TensorSpec("f4", (1,)),), body=bytes(4))
    with socket.create_connection((host, int(port)), 10) as connection:
        if how == "no certificate":
            connection = context.wrap_socket(connection, server_hostname="pi4.jmsnas")
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            connection.sendall(pack_head(frame) + bytes(4))
            while received := connection.recv(4096):  # an alert of TLS, and the end
                assert b"JMSN" not in received
        connection.close()
    assert not entered
    proof.show(f"frames with {how}: refused")


def test_data_from_a_device_that_is_no_neighbour(three: Fleet, proof: Proof) -> None:
    # pi4 sends to laptop only: cloud must not accept data from it.
    refused = request(three, "cloud", own_identity(three, "pi4"))
    assert refused.code == grpc.StatusCode.PERMISSION_DENIED
    assert "not a sender of this part" in str(refused) and not entered
    proof.show("data from a device that is no neighbour: refused")


@pytest.fixture
def impostor(three: Fleet, tmp_path: Path) -> Iterator[Agent]:
    """An agent with a certificate of our CA for the name `laptop`, and another key."""
    folder = tmp_path / "impostor"
    shutil.copytree(three.folder / "certs" / "laptop", folder)
    (folder / "device.key").unlink()
    _certify(folder, "laptop", *_authority(three.folder / "certs"), 10)
    agent = Agent(AgentSettings(folder, tmp_path / "store", "127.0.0.1:0"), lambda text: None)
    agent.start()
    assert fingerprint(agent.identity().certificate_pem) != three.leader.agents["laptop"].fingerprint
    yield agent
    agent.stop(0.0)


OTHER_KEY = "device laptop: UNAVAILABLE .its key is [0-9a-f]{12}, expected [0-9a-f]{12}: check devices.toml"


def test_an_impostor_gets_no_request_of_the_leader(
    three: Fleet, impostor: Agent, proof: Proof, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RequestHandler, "admit", lambda *_: entered.append("admit"))
    address = replace(three.leader.agents["laptop"], address=impostor.address)
    leader = Leader(three.folder / "certs" / "leader", {"laptop": address})
    leader._plan = replace(three.leader._plan, trail=("laptop",))
    with pytest.raises(DeployError, match=OTHER_KEY):
        leader.infer(images(1)[0])
    leader.close()
    assert not entered
    proof.show("an agent of the right name with another key: no request of the leader")


def test_an_impostor_gets_no_call_of_the_leader(three: Fleet, impostor: Agent, proof: Proof) -> None:
    """Neither at first, nor at the address of a device to which the leader was connected."""
    proxy = Proxy(three.leader.agents["laptop"])
    leader = Leader(three.folder / "certs" / "leader", three.leader.agents | {"laptop": proxy.address})
    assert leader.clients["laptop"].healthy(60)
    newcomer = Leader(three.folder / "certs" / "leader", leader.agents)
    proxy.target = replace(proxy.target, address=impostor.address)
    proxy.cut()
    for refused in (leader, newcomer):
        client = refused.clients["laptop"]
        with pytest.raises(DeployError, match=OTHER_KEY):
            refused.ship(pieces(), segments(1))
        with pytest.raises(DeployError, match=OTHER_KEY):
            client.put("ab" * 32, b"x")
        with pytest.raises(DeployError, match=f"{OTHER_KEY}|CERTIFICATE_VERIFY_FAILED"):
            client.bench({}, lambda event: None)
        assert not client.healthy() and "laptop" in refused.lost() and not entered
    proxy.target = three.leader.agents["laptop"]
    assert leader.clients["laptop"].healthy(60)
    for one in (leader, newcomer):
        one.close()
    proxy.close()
    assert not list((impostor.settings.store / "blobs").iterdir())
    proof.show("an agent of the right name with another key: no call of the leader, no file")


def test_an_impostor_gets_no_data_of_a_neighbour(
    three: Fleet, impostor: Agent, proof: Proof, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the requests are run
    admitted, admit = [], RequestHandler.admit

    def recorded(self: RequestHandler, *arguments: Any) -> Call:
        admitted.append(self)
        return admit(self, *arguments)

    monkeypatch.setattr(RequestHandler, "admit", recorded)
    honest, (x,) = three.leader.agents["laptop"], images(1)
    three.leader.agents["laptop"] = replace(honest, address=impostor.address)
    three.leader.ship(pieces(), segments())
    with pytest.raises(DeployError, match=OTHER_KEY):
        three.leader.infer(x)
    three.leader.agents["laptop"] = honest
    three.leader.ship(pieces(), segments())
    three.leader.infer(x)
    assert three.agents["laptop"].requests in admitted and impostor.requests not in admitted
    proof.show("an agent of the right name with another key: no data of a neighbour")


def test_a_revoked_leader(three: Fleet, proof: Proof, tmp_path: Path) -> None:
    # A certificate of our CA for the leader's name with another key.
    _certify(tmp_path / "second", "leader", *_authority(three.folder / "certs"), 10)
    other = read_identity(tmp_path / "second")
    assert fingerprint(other.certificate_pem) != fingerprint(own_identity(three, "leader").certificate_pem)
    channel = open_channel(three.leader.agents["pi4"].address, "pi4", other)
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(f"/{SERVICE}/Describe")(pack_message({}), timeout=3)
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
    channel.close()
    assert request(three, "pi4", other).code == grpc.StatusCode.PERMISSION_DENIED
    assert not entered
    proof.show("the leader's name with another key: refused")
