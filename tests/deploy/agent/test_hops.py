"""Devices that send what the plan does not name: forged branches, responses of another request or plan."""

import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
import pytest
from deployments import Fleet, exported, fleet, images, pieces, segments
from lying_agents import alter_outputs

from jmsnas.deploy.agent.admission import RequestRefusedError
from jmsnas.deploy.agent.request_handler import RequestHandler
from jmsnas.deploy.parts.shipment import NextHop, PartSpec
from jmsnas.deploy.transport.channel import SERVICE, open_channel
from jmsnas.deploy.transport.frame import TensorHeader, pack_message, unpack_message
from jmsnas.deploy.transport.identity import read_identity
from jmsnas.errors import DeployError

MESH = ("root", "left", "right", "join")


def mesh_specs() -> tuple[PartSpec, ...]:
    """Layers 1 and 2 on the root, 3 and 4 on both children, whose sum the join takes."""
    hops = NextHop("left"), NextHop("right")
    return (
        PartSpec("root", "chain", 1, 2, hops),
        PartSpec("left", "chain", 3, 4, (NextHop("join", branch=0),)),
        PartSpec("right", "chain", 3, 4, (NextHop("join", branch=1),)),
        PartSpec("join", "chain", 5, 6, (), joined=2),
    )


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("mesh"), MESH) as four:
        four.leader.ship(mesh_specs(), segments())
        yield four


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("chain")) as three:
        three.leader.ship(pieces(), segments())
        yield three


def send_branch(
    mesh: Fleet, sender: str, branch: int, request: str, epoch: int, limit_s: float = 20.0
) -> bytes:
    """Send a tensor to the joining device with the certificate of `sender`."""
    identity = read_identity(mesh.folder / "certs" / sender)
    channel = open_channel(mesh.leader.agents["join"].address, "join", identity)
    shape = exported().shapes[4]
    x = np.full(shape, 1.0 + branch, np.float32)
    message = pack_message(TensorHeader(request, epoch, "f4", shape, branch=branch), x.tobytes())
    try:
        return bytes(channel.unary_unary(f"/{SERVICE}/Run")(message, timeout=limit_s))
    finally:
        channel.close()


def test_a_mesh_of_honest_devices_serves(mesh: Fleet) -> None:
    (x,) = images(1)
    answer = mesh.leader.infer(x)
    half = exported().run(x, 1, 4)
    np.testing.assert_allclose(answer.logits, exported().run(half + half, 5, 6), atol=1e-4)
    assert [span.device for span in answer.trail] == ["root", "left", "join", "right", "join"]


@pytest.mark.parametrize("order", [("left", "right"), ("right", "left")])
def test_copies_of_a_serial_fan_out_are_sent_in_the_order_of_the_plan(
    mesh: Fleet, order: tuple[str, str]
) -> None:
    first, second = order
    root, *others = mesh_specs()
    hops = (NextHop(first), NextHop(second, wait_s=0.3))
    mesh.leader.ship((replace(root, next_hops=hops), *others), segments())
    try:
        for x in images(3):
            answer = mesh.leader.infer(x)
            half = exported().run(x, 1, 4)
            np.testing.assert_allclose(answer.logits, exported().run(half + half, 5, 6), atol=1e-4)
            at_ns = {span.device: span for span in answer.trail}
            # The one begins before the other is sent to, whatever the load of this machine.
            assert at_ns[second].received_ns - at_ns["root"].ended_ns >= 0.3e9
            assert at_ns[first].received_ns < at_ns[second].received_ns
    finally:
        mesh.leader.ship(mesh_specs(), segments())


@pytest.mark.parametrize(("sender", "branch"), [("left", 1), ("right", 0)])
def test_the_branch_of_another_device_is_refused(mesh: Fleet, sender: str, branch: int) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        send_branch(mesh, sender, branch, secrets.token_hex(16), mesh.leader.epoch)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert f"device join: branch {branch} from a device that the plan does not name for it" in str(
        refused.value
    )


@pytest.mark.parametrize("sender", ["root", "join", "leader"])
def test_a_branch_of_no_child_is_refused(mesh: Fleet, sender: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        send_branch(mesh, sender, 0, secrets.token_hex(16), mesh.leader.epoch)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_a_forged_branch_does_not_enter_the_sum(mesh: Fleet) -> None:
    request, epoch = secrets.token_hex(16), mesh.leader.epoch
    found: dict[int, bytes] = {}

    def send(branch: int, sender: str) -> None:
        found[branch] = send_branch(mesh, sender, branch, request, epoch)

    left = threading.Thread(target=send, args=(0, "left"))
    left.start()
    for _ in range(3):
        with pytest.raises(grpc.RpcError, match="does not name"):
            send_branch(mesh, "left", 1, request, epoch)
    send(1, "right")
    left.join()
    header, body = unpack_message(found[0])
    total = np.full(exported().shapes[4], 3.0, np.float32)
    logits = np.frombuffer(body, np.float32).reshape(header["shape"])
    np.testing.assert_allclose(logits, exported().run(total, 5, 6), atol=1e-4)
    # The same request again gets the same bytes, and with another plan's number none.
    assert bytes(unpack_message(send_branch(mesh, "left", 0, request, epoch))[1]) == bytes(body)
    with pytest.raises(grpc.RpcError, match="is not served"):
        send_branch(mesh, "left", 0, request, epoch + 1)


def test_children_that_report_unlike_responses(mesh: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(header: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        return header, (np.frombuffer(body, np.float32) + 1).tobytes()

    alter_outputs(monkeypatch, "left", other)
    with pytest.raises(DeployError, match="devices left, right gave unlike responses to one request"):
        mesh.leader.infer(images(1)[0])


Change = Callable[[dict[str, Any], bytes], Any]


def swap(key: str, value: Any) -> Change:
    return lambda header, body: ({**header, key: value}, body)


def span(name: str) -> list[Any]:
    return [name, 1, 2, 3]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (swap("id", "f" * 32), "a response to a different request"),
        (swap("epoch", 1 << 40), "a response to a different request: .* of plan 1099511627776"),
        (swap("epoch", 0), "a response to a different request: .* of plan 0"),
        (swap("trail", []), "a trail of none: expected"),
        (swap("trail", [span("laptop")]), "a trail of laptop: expected"),
        (swap("trail", [span("jetson")]), "a trail of jetson: expected"),
        (swap("trail", [span("cloud")] * 2), "a trail of cloud, cloud: expected"),
        (swap("trail", [["cloud", 3, 2, 1]]), "out of order|a trail of"),
        (
            lambda header, body: ({**header, "shape": [len(body) // 4, 1]}, body),
            r"of shape \(384, 1\): expected f4 of shape",
        ),
        (
            lambda header, body: ({**header, "dtype": "i8", "shape": [1, len(body) // 8]}, body),
            "an output in i8",
        ),
        (
            lambda header, body: ({**header, "dtype": "f2", "shape": [1, len(body) // 2]}, body),
            "an output in f2",
        ),
        (lambda header, body: (header, b"\0\0\xc0\x7f" * (len(body) // 4)), "a number that is not finite"),
        (lambda header, body: (header, b"\0\0\x80\x7f" * (len(body) // 4)), "a number that is not finite"),
        (lambda header, body: (header, body[:-4]), "a tensor of 1532 bytes"),
        (lambda header, body: b"", "malformed response"),
        (lambda header, body: b"\xff" * 64, "malformed response"),
        (swap("\x1b[2J", "x"), "malformed response"),
        (swap("branch", "one"), "malformed response"),
    ],
)
@pytest.mark.parametrize("device", ["pi4", "laptop", "cloud"])
def test_a_false_response_is_refused_by_the_device_that_receives_it(
    chain: Fleet, monkeypatch: pytest.MonkeyPatch, device: str, change: Change, fault: str
) -> None:
    (x,) = images(1)
    with monkeypatch.context() as patch:
        alter_outputs(patch, device, change)
        with pytest.raises(DeployError, match=f"^device {device}.*({fault})") as refused:
            chain.leader.infer(x)
    reporter = {"pi4": "", "laptop": "pi4", "cloud": "laptop"}[device]
    assert ("reported by device pi4" in str(refused.value)) == bool(reporter)
    assert str(refused.value).isprintable() and len(str(refused.value)) < 500
    # The others, and the device once it is honest, serve.
    np.testing.assert_allclose(chain.leader.infer(x).logits, exported().run(x), atol=1e-4)


@pytest.mark.parametrize("device", ["pi4", "laptop", "cloud"])
def test_swapped_responses_of_two_requests(
    chain: Fleet, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    both, kept = threading.Barrier(2, timeout=20), list[tuple[dict[str, Any], bytes]]()

    def swapped(header: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        kept.append((header, body))
        both.wait()
        (other,) = [one for one in kept if one[0]["id"] != header["id"]]
        return other

    alter_outputs(monkeypatch, device, swapped)
    waits = [chain.leader.start(x, 20.0) for x in images(2)]
    for wait in waits:
        with pytest.raises(DeployError, match=f"device {device}: a response to a different request"):
            wait()


@pytest.mark.parametrize("device", ["laptop", "cloud"])
def test_a_replayed_response_is_refused(chain: Fleet, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    first, second = images(2)
    kept: list[tuple[dict[str, Any], bytes]] = []

    def replay(header: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        kept.append((header, body))
        return kept[0]

    alter_outputs(monkeypatch, device, replay)
    chain.leader.infer(first)
    with pytest.raises(DeployError, match=f"device {device}: a response to a different request"):
        chain.leader.infer(second)


def test_a_response_of_the_plan_before_is_refused(chain: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    (x,) = images(1)
    before = chain.leader.epoch
    chain.leader.ship(pieces(), segments(1))
    alter_outputs(monkeypatch, "cloud", swap("epoch", before))
    with pytest.raises(DeployError, match=f"device cloud: a response .* of plan {before}, expected"):
        chain.leader.infer(x)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("device pi4: out of memory", "^device laptop: INTERNAL"),  # about a device before it
        ("device jetson: out of memory", "^device laptop: INTERNAL"),  # about one that is not in the plan
        ("device cloud: out of memory", "^device cloud: out of memory .*reported by device pi4"),
        ("device cloud: \x1b[2J", "^device laptop: INTERNAL"),
        ("device cloud: out\nok agent of cloud", "^device laptop: INTERNAL"),
        ("device cloud", "^device laptop: INTERNAL"),
    ],
)
def test_error_texts_about_other_devices(
    chain: Fleet, monkeypatch: pytest.MonkeyPatch, text: str, shown: str
) -> None:
    compute = RequestHandler._compute

    def refuse(self: RequestHandler, *arguments: Any) -> Any:
        if self._name == "laptop":
            raise RequestRefusedError(grpc.StatusCode.INTERNAL, text)
        return compute(self, *arguments)

    monkeypatch.setattr(RequestHandler, "_compute", refuse)
    with pytest.raises(DeployError, match=shown) as refused:
        chain.leader.infer(images(1)[0])
    assert str(refused.value).isprintable()


def test_a_tensor_that_is_not_finite_is_refused_where_it_arrives(chain: Fleet) -> None:
    (x,) = images(1)
    x[0, 0, 0, 0] = np.nan
    with pytest.raises(DeployError, match="device pi4: a tensor with a number that is not finite"):
        chain.leader.infer(x)


def test_plans_of_a_join_name_a_source_for_each_branch(mesh: Fleet) -> None:
    specs = mesh_specs()
    crossed = (
        specs[0],
        *(replace(s, next_hops=(NextHop("join", branch=1 - n),)) for n, s in enumerate(specs[1:3])),
        specs[3],
    )
    leader = mesh.new_leader()
    leader.ship(crossed, segments())
    with pytest.raises(grpc.RpcError, match="does not name"):
        send_branch(mesh, "left", 0, secrets.token_hex(16), leader.epoch)
    assert leader.infer(images(1)[0]).epoch == leader.epoch
    leader.close()
