"""Devices that send what the plan does not name: forged branches, responses of another request or plan."""

import dataclasses
import secrets
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import msgspec
import numpy as np
import pytest
from deployments import Fleet, exported, fleet, images, pieces, segments
from lying_agents import alter_outputs
from msgspec.structs import replace

from jmsnas.deploy.agent.request_handler import RequestHandler
from jmsnas.deploy.leader.agent_client import target_of
from jmsnas.deploy.parts.shipment import NextHop, PartSpec
from jmsnas.deploy.transport.data_link import DataLink
from jmsnas.deploy.transport.frame import Dtype, Frame, Kind, TensorSpec, pack_head
from jmsnas.deploy.transport.identity import read_identity
from jmsnas.deploy.transport.liveness import Liveness
from jmsnas.deploy.transport.refusal import RequestRefusedError
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
    mesh: Fleet, sender: str, branch: int, request: bytes, epoch: int, limit_s: float = 20.0
) -> Frame:
    """Send a tensor to the joining device with the certificate of `sender`."""
    identity, liveness = read_identity(mesh.folder / "certs" / sender), Liveness()
    link = DataLink(target_of(mesh.leader.agents["join"]), lambda: identity, liveness)
    shape = exported().shapes[4]
    x = np.full(shape, 1.0 + branch, np.float32)
    tensors = (TensorSpec("f4", shape),)
    frame = Frame(Kind.RUN, epoch=epoch, id=request, branch=branch, tensors=tensors, body=x.tobytes())
    try:
        return link.wait(frame, limit_s, 1 << 20)()
    finally:
        link.close()
        liveness.close()


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
    mesh.leader.ship((dataclasses.replace(root, next_hops=hops), *others), segments())
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
    refusal = f"^device join: branch {branch} from a device that the plan does not name for it$"
    with pytest.raises(RequestRefusedError, match=refusal) as refused:
        send_branch(mesh, sender, branch, secrets.token_bytes(16), mesh.leader.epoch)
    assert refused.value.code is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("sender", ["root", "join", "leader"])
def test_a_branch_of_no_child_is_refused(mesh: Fleet, sender: str) -> None:
    refusal = "^device join: data from a device that is not a sender of this part$"
    with pytest.raises(RequestRefusedError, match=refusal) as refused:
        send_branch(mesh, sender, 0, secrets.token_bytes(16), mesh.leader.epoch)
    assert refused.value.code is grpc.StatusCode.PERMISSION_DENIED


def test_a_forged_branch_does_not_enter_the_sum(mesh: Fleet) -> None:
    request, epoch = secrets.token_bytes(16), mesh.leader.epoch
    found: dict[int, Frame] = {}

    def send(branch: int, sender: str) -> None:
        found[branch] = send_branch(mesh, sender, branch, request, epoch)

    left = threading.Thread(target=send, args=(0, "left"))
    left.start()
    for _ in range(3):
        with pytest.raises(RequestRefusedError, match="does not name"):
            send_branch(mesh, "left", 1, request, epoch)
    send(1, "right")
    left.join()
    answer = found[0]
    assert answer.body is not None and found[1].body == answer.body
    total = np.full(exported().shapes[4], 3.0, np.float32)
    logits = np.frombuffer(answer.body, np.float32).reshape(answer.tensors[0].shape)
    np.testing.assert_allclose(logits, exported().run(total, 5, 6), atol=1e-4)
    # The same request again gets the same bytes, and with another plan's number none.
    assert send_branch(mesh, "left", 0, request, epoch).body == answer.body
    with pytest.raises(RequestRefusedError, match="is not served"):
        send_branch(mesh, "left", 0, request, epoch + 1)


def test_children_that_report_unlike_responses(mesh: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(honest: Frame) -> Frame:
        return replace(honest, body=(np.frombuffer(body_of(honest), np.float32) + 1).tobytes())

    alter_outputs(monkeypatch, "left", other)
    with pytest.raises(DeployError, match="devices left, right gave unlike responses to one request"):
        mesh.leader.infer(images(1)[0])


Change = Callable[[Frame], Frame | bytes]


def body_of(frame: Frame) -> bytes:
    return bytes(frame.body or b"")


def swap(**changes: Any) -> Change:
    return lambda honest: replace(honest, **changes)


def with_trail(*spans: list[Any]) -> Change:
    return swap(text=msgspec.json.encode(spans))


def with_tensor(dtype: Dtype, items_per_number: float, *shape: int) -> Change:
    """Name another dtype and shape for the same bytes; a size of 0 is what the others leave."""

    def change(honest: Frame) -> Frame:
        rest = int(len(body_of(honest)) * items_per_number / 4)
        return replace(honest, tensors=(TensorSpec(dtype, tuple(size or rest for size in shape)),))

    return change


def filled(number: bytes) -> Change:
    return lambda honest: replace(honest, body=number * (len(body_of(honest)) // 4))


def span(name: str) -> list[Any]:
    return [name, 1, 2, 3]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (swap(id=b"\xff" * 16), "a response to a different request"),
        (swap(epoch=1 << 40), "a response to a different request: .* of plan 1099511627776"),
        (swap(epoch=0), "a response to a different request: .* of plan 0"),
        (with_trail(), "a trail of none: expected"),
        (with_trail(span("laptop")), "a trail of laptop: expected"),
        (with_trail(span("jetson")), "a trail of jetson: expected"),
        (with_trail(span("cloud"), span("cloud")), "a trail of cloud, cloud: expected"),
        (with_trail(["cloud", 3, 2, 1]), "out of order|a trail of"),
        (with_tensor("f4", 1, 0, 1), r"of shape \(384, 1\): expected f4 of shape"),
        (with_tensor("i8", 0.5, 1, 0), "an output in i8"),
        (with_tensor("f2", 2, 1, 0), "an output in f2"),
        (lambda honest: replace(honest, tensors=honest.tensors * 2, body=body_of(honest) * 2), "2 tensors"),
        (swap(tensors=(), body=b""), "a frame of kind 2 with 0 tensors"),
        (filled(b"\0\0\xc0\x7f"), "a number that is not finite"),
        (filled(b"\0\0\x80\x7f"), "a number that is not finite"),
        (lambda honest: replace(honest, body=body_of(honest)[:-4]), "tensors of 1532 bytes: .* need 1536"),
        (swap(kind=Kind.TIMES), "a frame of kind 6 with 1 tensors"),
        (swap(kind=Kind.ERROR), "an error is not valid"),
        (lambda honest: bytes(48), "malformed response .data.: bytes that are no frame"),
        (lambda honest: b"\xff" * 64, "malformed response .data.: bytes that are no frame"),
        (swap(text=b'{"\x1b[2J":"x"}'), "malformed response"),
        (swap(text=b"\xff" * 64), "malformed response"),
        (swap(text=b""), "malformed response"),
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
    kept: list[Frame] = []

    def swapped(honest: Frame) -> Frame | bytes:
        kept.append(honest)
        if len(kept) == 1:
            return Frame(Kind.HEARTBEAT)
        first, second = replace(kept[0], call=honest.call), replace(honest, call=kept[0].call)
        return b"".join(pack_head(one) + body_of(one) for one in (first, second))

    alter_outputs(monkeypatch, device, swapped)
    waits = [chain.leader.start(x, 20.0) for x in images(2)]
    for wait in waits:
        with pytest.raises(DeployError, match=f"device {device}: a response to a different request"):
            wait()


@pytest.mark.parametrize("device", ["laptop", "cloud"])
def test_a_replayed_response_is_refused(chain: Fleet, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    first, second = images(2)
    kept: list[Frame] = []

    def replay(honest: Frame) -> Frame:
        kept.append(honest)
        return replace(kept[0], call=honest.call)

    alter_outputs(monkeypatch, device, replay)
    chain.leader.infer(first)
    with pytest.raises(DeployError, match=f"device {device}: a response to a different request"):
        chain.leader.infer(second)


def test_a_response_of_the_plan_before_is_refused(chain: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    (x,) = images(1)
    before = chain.leader.epoch
    chain.leader.ship(pieces(), segments(1))
    alter_outputs(monkeypatch, "cloud", swap(epoch=before))
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
        *(
            dataclasses.replace(s, next_hops=(NextHop("join", branch=1 - n),))
            for n, s in enumerate(specs[1:3])
        ),
        specs[3],
    )
    leader = mesh.new_leader()
    leader.ship(crossed, segments())
    with pytest.raises(RequestRefusedError, match="does not name"):
        send_branch(mesh, "left", 0, secrets.token_bytes(16), leader.epoch)
    assert leader.infer(images(1)[0]).epoch == leader.epoch
    leader.close()
