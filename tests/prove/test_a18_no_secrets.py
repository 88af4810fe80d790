"""A18: an agent's errors and its log hold no path, no key and no content."""

import socket
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest
from deployments import pieces, segments
from prove.own_agents import Own, own_agents
from prove.proof import Proof

from jmsnas.deploy.leader.agent_client import target_of
from jmsnas.deploy.transport.channel import SERVICE, Identity, open_channel
from jmsnas.deploy.transport.data_link import DataLink
from jmsnas.deploy.transport.devices_file import AgentAddress
from jmsnas.deploy.transport.frame import Frame, FrameReader, Kind, TensorSpec
from jmsnas.deploy.transport.identity import read_identity
from jmsnas.deploy.transport.liveness import Liveness
from jmsnas.deploy.transport.message import pack_message
from jmsnas.deploy.transport.refusal import RequestRefusedError
from jmsnas.deploy.transport.tls import connect
from jmsnas.errors import DeployError

# A neighbour that the leader names: whose port cannot be reached, or whose key is another one.
TARGET = {"name": "x", "fingerprint": "ab" * 32, "sizes": [1]}


def wrong_calls(own: Own) -> list[str]:
    """Return the errors of every kind of wrong call."""
    errors = []
    identity = read_identity(own.folder / "certs" / "leader")
    address = own.agents["pi4"].address
    channel = open_channel(address.address, "pi4", identity)
    for name, message in (
        ("Offer", b"garbage"),
        ("Offer", pack_message({"signature": "xyz"}, b"{}")),
        ("Offer", pack_message({"signature": "00" * 64}, b"{}")),
        ("Stage", pack_message({"epoch": 12345})),
        ("Stage", pack_message({"epoch": "../.."})),
        ("Link", pack_message({**TARGET, "address": "127.0.0.1:1"})),
        ("Link", pack_message({**TARGET, "address": "/etc/passwd"})),
        ("Link", pack_message({**TARGET, "address": address.data_address})),
        ("Retire", b"\0\0\0\1x"),
    ):
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary(f"/{SERVICE}/{name}")(message, timeout=5)
        errors.append(error.value.details())
    channel.close()
    errors += wrong_frames(address, identity, own.leader.epoch)
    for digest in ("ab" * 32, "../" * 20):
        with pytest.raises(DeployError) as refused:
            own.leader.clients["pi4"].put(digest, b"x")
        errors.append(str(refused.value))
    # The agent's disk becomes unavailable.
    for blob in (own.folder / "agents" / "pi4" / "blobs").iterdir():
        blob.unlink()
    own.agents["pi4"].restart()
    with pytest.raises(DeployError) as refused:
        own.leader.infer(segments()["chain"].run(pieces_input()), timeout_s=3)
    errors.append(str(refused.value))
    return errors


def wrong_frames(address: AgentAddress, identity: Identity, epoch: int) -> list[str]:
    """Return the errors of wrong requests and malformed frames on the data plane."""
    errors, x = [], TensorSpec("f4", (1, 1, 8, 8))
    not_finite = np.full(64, np.nan, np.float32).tobytes()
    liveness = Liveness()
    link = DataLink(target_of(address), lambda: identity, liveness)
    for frame in (
        Frame(Kind.RUN, epoch=99, tensors=(x,), body=bytes(256)),
        Frame(Kind.RUN, epoch=epoch, tensors=(TensorSpec("f4", (1,)),), body=bytes(4)),
        Frame(Kind.RUN, epoch=epoch, branch=9, tensors=(x,), body=bytes(256)),
        Frame(Kind.RUN, epoch=epoch, tensors=(x,), body=not_finite),
        Frame(Kind.EXCHANGE, tensors=()),
        Frame(Kind.RESULT, tensors=(x,), body=bytes(256)),
        Frame(Kind.RUN, epoch=epoch, tensors=(x,), body=bytes(3)),
    ):
        with pytest.raises(RequestRefusedError) as refused:
            link.wait(frame, 5.0, 0)()
        errors.append(str(refused.value))
    link.close()
    liveness.close()
    for content in (b"garbage" * 9, b"JMSN\xff" + bytes(60)):
        with connect(address.data_address, address.name, address.fingerprint, identity) as connection:
            connection.sendall(content)
            errors.append(received(connection).text.decode())
    return errors


def received(connection: socket.socket) -> Frame:
    """Receive the first frame that is no heartbeat."""
    reader = FrameReader()
    while True:
        while (frame := reader.next()) is not None:
            if frame.kind is not Kind.HEARTBEAT:
                return frame
        count = connection.recv_into(reader.target())
        assert count, "the connection has ended"
        reader.advance(count)


def pieces_input() -> object:
    from deployments import images

    return images(1)[0]


def test_nothing_leaks(tmp_path: Path, proof: Proof, capfd: pytest.CaptureFixture[str]) -> None:
    with own_agents(tmp_path) as own:
        own.leader.ship(pieces(), segments())
        errors = wrong_calls(own)
    log = capfd.readouterr()
    everything = "\n".join([*errors, log.out, log.err])
    keys = [path.read_text().splitlines()[1] for path in (tmp_path / "certs").rglob("*.key")]
    for secret in (str(tmp_path), "/home", "/root", "Traceback", *keys):
        assert secret not in everything, secret
    assert all(len(words) < 400 for words in errors)
    proof.show(f"{len(errors)} refusals and the log: no path, no key, no traceback")


def test_no_pickle_in_what_is_deployed(proof: Proof) -> None:
    """Deployment code imports no pickle, and an agent loads neither torch nor other large packages."""
    script = (
        "import sys, jmsnas.deploy.agent.agent; "
        "heavy = ('torch', 'sklearn', 'pandas', 'matplotlib', 'torchvision', 'onnx', 'pyarrow', 'google'); "
        "print([module for module in heavy if module in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert loaded == "[]\n"
    folder = Path(__file__).parents[2] / "jmsnas" / "deploy"
    sources = "\n".join(path.read_text() for path in folder.rglob("*.py"))
    for word in ("import pickle", "torch.load", "shell=True", "eval(", "exec(", "joblib"):
        assert word not in sources.replace("fuse_conv_bn_eval(", "").replace(".eval(", "")
    proof.show("an agent loads no torch, scikit-learn, pandas, matplotlib, onnx, protobuf; no pickle")
