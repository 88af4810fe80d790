"""A7: peers without a valid certificate are refused before any handler runs."""

import datetime
from collections.abc import Callable, Iterator
from dataclasses import replace

import grpc
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from deployments import Fleet, fleet, images, pieces, segments
from prove.proof import Proof

from jmsnas.deploy.agent import service
from jmsnas.deploy.agent.part_lifecycle import AgentParts
from jmsnas.deploy.agent.request_handler import RequestHandler
from jmsnas.deploy.transport.channel import CLIENT_OPTIONS, SERVICE, Identity, open_channel
from jmsnas.deploy.transport.frame import TensorHeader, pack_message
from jmsnas.deploy.transport.identity import read_identity

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
    for owner, name in ((AgentParts, "offer"), (RequestHandler, "_respond"), (service, "measure_link")):
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
    from jmsnas.deploy.transport.certificates import _authority, _builder, _key

    folder = three.folder / "certs"
    ca, ca_key = _authority(folder)
    own, key = own_identity(three, "leader"), _key(folder / "leader" / "device.key")
    builder = _builder(ca.subject, ca.subject, key.public_key(), 1, is_ca=False)
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=3)
    builder._not_valid_before, builder._not_valid_after = then, then + datetime.timedelta(days=1)
    from cryptography.hazmat.primitives import hashes

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


def test_data_from_a_device_that_is_no_neighbour(three: Fleet, proof: Proof) -> None:
    # pi4 sends to laptop only: cloud must not accept data from it.
    channel = open_channel(three.leader.agents["cloud"].address, "cloud", own_identity(three, "pi4"))
    (x,) = images(1)
    header = TensorHeader("0" * 32, three.leader.epoch, "f4", x.shape)
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(f"/{SERVICE}/Run")(pack_message(header, x.tobytes()), timeout=3)
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert "not a sender of this part" in refused.value.details()
    channel.close()
    assert not entered
    proof.show("data from a device that is no neighbour: refused")


def test_a_revoked_leader(three: Fleet, proof: Proof) -> None:
    # A certificate of our CA for the leader's name with another key.
    from jmsnas.deploy.transport.certificates import _authority, _certify

    folder = three.folder / "certs"
    ca, ca_key = _authority(folder)
    _certify(folder / "second", "leader", ca, ca_key, 10)
    other = read_identity(folder / "second")
    public = Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    assert public and other.certificate_pem != own_identity(three, "leader").certificate_pem
    channel = open_channel(three.leader.agents["pi4"].address, "pi4", other)
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(f"/{SERVICE}/Describe")(pack_message({}), timeout=3)
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
    channel.close()
    assert not entered
    proof.show("the leader's name with another key: refused")
