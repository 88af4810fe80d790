"""Run a part: by onnxruntime, by torch, or not at all where the device only forwards."""

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

from jmsnas.arrays import Float32Array
from jmsnas.deploy.parts.manifest import Manifest
from jmsnas.deploy.parts.onnx_scan import scan_onnx
from jmsnas.errors import PartError
from jmsnas.profiler.timing.onnx_session import open_session

# Relative to the largest output: the leader may have another processor and other package versions.
GOLDEN_TOLERANCE = 1e-4


class PartRunner:
    """A loaded part: a callable from array to array."""

    def __init__(self, manifest: Manifest, model: bytes | None) -> None:
        self.manifest = manifest
        self._call = _load(manifest, model) if model is not None else None

    def __call__(self, x: Float32Array) -> Float32Array:
        """Run the part once. Raises PartError when the output has another shape than was signed."""
        if self._call is None:
            return x
        y = self._call(x)
        if y.shape != self.manifest.output_shape or y.dtype != np.float32:
            raise PartError("a part whose output has another shape than was signed")
        return np.ascontiguousarray(y)


def _load(manifest: Manifest, model: bytes) -> Callable[[Float32Array], Float32Array]:
    if manifest.runtime == "onnxruntime":
        return _onnx_call(manifest, model)
    require_torch(manifest)
    # Importing torch takes seconds, and memory.
    from jmsnas.deploy.parts.torch_runtime import torch_callable

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


def _onnx_call(manifest: Manifest, model: bytes) -> Callable[[Float32Array], Float32Array]:
    required = scan_onnx(model)
    if (required.opset, required.ops) != (manifest.opset, manifest.ops):
        raise PartError("an ONNX file whose operators or opset are not those that were signed")
    try:
        session = open_session(model, manifest.threads)
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise PartError("an ONNX file that onnxruntime cannot load: send the part again") from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise PartError("a part with several inputs or outputs: expected one of each")
    output_names, input_name = [outputs[0].name], inputs[0].name

    def call(x: Float32Array) -> Float32Array:
        (y,) = session.run(output_names, {input_name: x})
        found: Float32Array = y
        return found

    return call


def golden_arrays(manifest: Manifest, golden: bytes) -> tuple[Float32Array, Float32Array]:
    """Split a golden file into test input and expected output. Raises PartError."""
    sizes = [int(np.prod(shape)) for shape in (manifest.input_shape, manifest.output_shape)]
    if len(golden) != 4 * sum(sizes):
        raise PartError("golden values of another size than was signed")
    numbers = np.frombuffer(golden, "<f4").astype(np.float32)
    x, y = numbers[: sizes[0]], numbers[sizes[0] :]
    return x.reshape(manifest.input_shape), y.reshape(manifest.output_shape)


def golden_error(runner: PartRunner, x: Float32Array, y: Float32Array) -> float:
    """Return the largest difference from the leader's output, relative to its largest value (at least 1)."""
    found = runner(x)
    if not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - y).max() / max(1.0, float(np.abs(y).max())))
