"""Run a part: one onnxruntime session, or nothing where the device only passes on."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jmsnas.deploy.manifest import Manifest
from jmsnas.deploy.onnx_walk import read_onnx
from jmsnas.errors import PartError
from jmsnas.profiler.onnx_session import open_session

Array = NDArray[np.float32]
# Part of the largest output: the leader may have another processor and another version.
GOLDEN_TOLERANCE = 1e-4


class Runner:
    """A part that is ready: arrays in, arrays out."""

    def __init__(self, manifest: Manifest, model: bytes | None) -> None:
        self.manifest = manifest
        self._session: Any = None
        if model is None:
            return
        check_onnx(manifest, model)
        try:
            self._session = open_session(model, manifest.threads)
        except Exception as error:  # onnxruntime's own classes share no base
            raise PartError("an ONNX file that onnxruntime refuses: send the part again") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise PartError("a part with several inputs or outputs: expected one of each")
        self._names = [outputs[0].name], inputs[0].name

    def __call__(self, x: Array) -> Array:
        """Run the part once. Raises PartError when the output has another shape than was signed."""
        if self._session is None:
            return x
        leaving, entering = self._names
        (y,) = self._session.run(leaving, {entering: x})
        if y.shape != self.manifest.output_shape or y.dtype != np.float32:
            raise PartError("a part whose output has another shape than was signed")
        return np.ascontiguousarray(y)


def check_onnx(manifest: Manifest, model: bytes) -> None:
    """Refuse a model that is not what its manifest says, or holds what may not be run. Raises PartError."""
    facts = read_onnx(model)
    if (facts.opset, facts.ops) != (manifest.opset, manifest.ops):
        raise PartError("an ONNX file whose operators or opset are not those that were signed")


def golden_arrays(manifest: Manifest, golden: bytes) -> tuple[Array, Array]:
    """Take the golden input and output apart. Raises PartError."""
    sizes = [int(np.prod(shape)) for shape in (manifest.input_shape, manifest.output_shape)]
    if len(golden) != 4 * sum(sizes):
        raise PartError("a golden input and output of another size than was signed")
    numbers = np.frombuffer(golden, "<f4").astype(np.float32)
    x, y = numbers[: sizes[0]], numbers[sizes[0] :]
    return x.reshape(manifest.input_shape), y.reshape(manifest.output_shape)


def golden_error(runner: Runner, x: Array, y: Array) -> float:
    """Largest difference from the leader's output, as a share of its largest number."""
    found = runner(x)
    if not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - y).max() / max(1.0, float(np.abs(y).max())))
