"""Run a part: by onnxruntime, by torch, or not at all where the device only forwards."""

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from jmsnas.deploy.parts.manifest import Manifest
from jmsnas.deploy.parts.onnx_scan import scan_onnx
from jmsnas.errors import PartError
from jmsnas.profiler.timing.onnx_session import open_session

Array = NDArray[np.float32]
# Relative to the largest output: the leader may have another processor and other package versions.
GOLDEN_TOLERANCE = 1e-4


class PartRunner:
    """A loaded part: a callable from array to array."""

    def __init__(self, manifest: Manifest, model: bytes | None) -> None:
        self.manifest = manifest
        self._call = _load(manifest, model) if model is not None else None

    def __call__(self, x: Array) -> Array:
        """Run the part once. Raises PartError when the output has another shape than was signed."""
        if self._call is None:
            return x
        y = self._call(x)
        if y.shape != self.manifest.output_shape or y.dtype != np.float32:
            raise PartError("a part whose output has another shape than was signed")
        return np.ascontiguousarray(y)


def _load(manifest: Manifest, model: bytes) -> Callable[[Array], Array]:
    if manifest.runtime == "onnxruntime":
        return _onnx_call(manifest, model)
    require_torch(manifest)
    from jmsnas.deploy.parts.torch_runtime import (
        torch_callable,  # takes seconds, and memory that only torch parts need
    )

    try:
        return torch_callable(manifest, model)
    except RuntimeError as error:  # of torch, such as no memory on the GPU
        raise PartError("a torch part that torch cannot load: check the free memory") from error


def require_torch(manifest: Manifest) -> None:
    """Raise PartError for a torch part where torch is not installed; torch is not imported for this."""
    try:
        found = manifest.runtime != "torch" or find_spec("torch") is not None
    except ImportError:
        found = False
    if not found:
        raise PartError(
            "a torch part, and this device has no torch: python -m pip install torch, or serve it by "
            "onnxruntime (runtime of the device in the topology file)"
        )


def _onnx_call(manifest: Manifest, model: bytes) -> Callable[[Array], Array]:
    check_onnx(manifest, model)
    try:
        session = open_session(model, manifest.threads)
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise PartError("an ONNX file that onnxruntime cannot load: send the part again") from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise PartError("a part with several inputs or outputs: expected one of each")
    leaving, entering = [outputs[0].name], inputs[0].name

    def call(x: Array) -> Array:
        (y,) = session.run(leaving, {entering: x})
        found: Array = y
        return found

    return call


def check_onnx(manifest: Manifest, model: bytes) -> None:
    """Raise PartError for an ONNX file that differs from its manifest, or may not be run."""
    facts = scan_onnx(model)
    if (facts.opset, facts.ops) != (manifest.opset, manifest.ops):
        raise PartError("an ONNX file whose operators or opset are not those that were signed")


def golden_arrays(manifest: Manifest, golden: bytes) -> tuple[Array, Array]:
    """Split the golden values into input and output. Raises PartError."""
    sizes = [int(np.prod(shape)) for shape in (manifest.input_shape, manifest.output_shape)]
    if len(golden) != 4 * sum(sizes):
        raise PartError("golden values of another size than was signed")
    numbers = np.frombuffer(golden, "<f4").astype(np.float32)
    x, y = numbers[: sizes[0]], numbers[sizes[0] :]
    return x.reshape(manifest.input_shape), y.reshape(manifest.output_shape)


def golden_error(runner: PartRunner, x: Array, y: Array) -> float:
    """Return the largest difference from the leader's output, relative to its largest value (at least 1)."""
    found = runner(x)
    if not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - y).max() / max(1.0, float(np.abs(y).max())))
