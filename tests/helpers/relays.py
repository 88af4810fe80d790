"""Parts without layers, which need no model, and request handlers that run them."""

from dataclasses import dataclass

from jmsnas.deploy.agent.forwarding import Forwarder
from jmsnas.deploy.agent.request_handler import RequestHandler
from jmsnas.deploy.parts.manifest import Hop, Manifest
from jmsnas.deploy.parts.runtime import PartRunner
from jmsnas.deploy.transport.frame import Frame, Kind, TensorSpec
from jmsnas.deploy.transport.health import Health
from jmsnas.deploy.transport.liveness import Liveness

EPOCH = 7
SHAPE = (1, 4)
ANY_PIN = "ab" * 32


def relay(
    hops: tuple[Hop, ...] = (),
    joined: int = 0,
    sources: tuple[str, ...] = (),
    shape: tuple[int, ...] = SHAPE,
    hold_s: float = 0.0,
) -> PartRunner:
    """Build a part that sums its inputs where there are several, and computes nothing else."""
    manifest = Manifest(
        cluster=ANY_PIN,
        device="cloud",
        fingerprint=ANY_PIN,
        epoch=EPOCH,
        layers="",
        runtime="onnxruntime",
        processor="cpu",
        layout="contiguous",
        blocks=(),
        model=None,
        golden=None,
        input_shape=shape,
        output_shape=shape,
        opset=0,
        ops=(),
        threads=1,
        peak_bytes=0,
        joined=joined,
        sources=sources or tuple(f"{n:064x}" for n in range(max(1, joined))),
        response_shape=shape,
        hops=hops,
        hold_s=hold_s,
        versions={},
    )
    return PartRunner(manifest, None)


@dataclass
class OnePart:
    """The parts of an agent that serves one plan."""

    part: PartRunner

    @property
    def serving(self) -> tuple[int, ...]:
        return (self.part.manifest.epoch,)

    def find(self, epoch: int) -> PartRunner | None:
        return self.part if epoch == self.part.manifest.epoch else None


def handler_of(part: PartRunner) -> RequestHandler:
    """Build the request handler of an agent that serves one part."""
    health = Health()
    health.serving = True
    return RequestHandler("cloud", OnePart(part), Forwarder(lambda: None, Liveness()), health)  # type: ignore[arg-type]


def run_frame(call: int, body: bytes, name: bytes = b"", branch: int = 0, left_s: float = 60.0) -> Frame:
    """Build a request of the plan, named by its call unless `name` is given."""
    tensors = (TensorSpec("f4", (1, len(body) // 4)),)
    request_id = name.ljust(16, b".") if name else call.to_bytes(16, "big")
    return Frame(Kind.RUN, call, EPOCH, request_id, left_s, branch, tensors, b"", body)
