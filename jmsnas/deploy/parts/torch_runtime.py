"""Run a part in torch: the blocks of its manifest, with weights from a safetensors file.

The only module of the agent that imports torch; it is imported only where a torch part is served.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from jmsnas.arrays import Float32Array
from jmsnas.blocks import build_module
from jmsnas.deploy.parts.manifest import Manifest
from jmsnas.deploy.parts.safetensors_scan import TensorEntry, scan_safetensors
from jmsnas.deploy.parts.torch_architecture import PartArchitecture, parse_architecture
from jmsnas.errors import PartError

_DTYPES = {torch.float32: "F32", torch.int64: "I64"}
_NUMPY = {"F32": "<f4", "I64": "<i8"}
_LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def load_torch_part(architecture: PartArchitecture, weights: bytes) -> nn.Module:
    """Build the modules of a part with the weights of a file, in evaluation mode.

    They are built on the meta device first: names, dtypes and shapes of the file are compared with those of
    the modules before any value is read. Raises PartError when they differ.
    """
    entries = scan_safetensors(weights, architecture.weights_bytes)
    with torch.device("meta"):
        module = build_module(architecture.part)
    needed = module.state_dict()
    if set(entries) != set(needed):
        raise PartError("a safetensors file with tensors missing or unknown: send the part again")
    for name, empty in needed.items():
        if (entries[name].dtype, entries[name].shape) != (_DTYPES[empty.dtype], tuple(empty.shape)):
            raise PartError("a safetensors file with a tensor of another dtype or shape than its block has")
    tensors = {name: _tensor(weights, entry) for name, entry in entries.items()}
    module.load_state_dict(tensors, assign=True)
    return module.eval().requires_grad_(False)


def _tensor(weights: bytes, entry: TensorEntry) -> Tensor:
    numbers = np.frombuffer(weights[entry.begin : entry.end], _NUMPY[entry.dtype])
    return torch.from_numpy(numbers.copy()).reshape(entry.shape)


def torch_callable(manifest: Manifest, weights: bytes) -> Callable[[Float32Array], Float32Array]:
    """Load a torch part as a callable from array to array, for one call at a time.

    Raises PartError when the weights are not those of its blocks, or it is for CUDA and torch has none.
    """
    if manifest.processor == "cuda" and not torch.cuda.is_available():
        raise PartError(
            "a part for CUDA, and torch finds no GPU on this device: see nvidia-smi, and install a torch "
            "that was built for CUDA"
        )
    architecture = parse_architecture(manifest.blocks, manifest.input_shape, manifest.output_shape)
    module = load_torch_part(architecture, weights).to(manifest.processor)
    shapes = manifest.input_shape, manifest.output_shape
    call = module_callable(module, *shapes, manifest.processor, manifest.layout, manifest.threads)
    call(np.zeros(manifest.input_shape, np.float32))  # warm-up: the first call is slower
    return call


def module_callable(
    module: nn.Module,
    input_shape: tuple[int, ...],
    output_shape: tuple[int, ...],
    processor: str = "cpu",
    layout: str = "contiguous",
    threads: int = 1,
) -> Callable[[Float32Array], Float32Array]:
    """Wrap a module in evaluation mode, already on `processor`, as a callable from array to array."""
    module = module.to(memory_format=_LAYOUTS[layout])
    if processor == "cuda":
        # TF32 would change the logits by a thousandth: the leader computes in float32.
        torch.backends.cudnn.allow_tf32 = False
        return _on_cuda(module, input_shape, output_shape, _LAYOUTS[layout])
    return _on_cpu(module, input_shape, _LAYOUTS[layout], threads)


def _on_cpu(
    module: nn.Module, shape: tuple[int, ...], layout: torch.memory_format, threads: int
) -> Callable[[Float32Array], Float32Array]:
    x_NCHW = torch.empty(shape).to(memory_format=layout)
    input_buffer = x_NCHW.numpy()

    def call(x: Float32Array) -> Float32Array:
        # Settings of this process or thread, and gRPC chooses the thread; as in the profiler's torch backend.
        torch.set_num_threads(threads)
        torch.set_flush_denormal(True)
        try:
            input_buffer[...] = x
            with torch.inference_mode():
                y: Tensor = module(x_NCHW)
                return np.asarray(y.numpy())
        finally:
            torch.set_flush_denormal(False)  # the thread is shared

    return call


def _on_cuda(
    module: nn.Module,
    input_shape: tuple[int, ...],
    output_shape: tuple[int, ...],
    layout: torch.memory_format,
) -> Callable[[Float32Array], Float32Array]:
    """Return a callable that copies through page-locked memory, so that copies are asynchronous."""
    x_NCHW = torch.empty(input_shape, pin_memory=True)
    y_host = torch.empty(output_shape, pin_memory=True)
    input_buffer, output = x_NCHW.numpy(), y_host.numpy()

    def call(x: Float32Array) -> Float32Array:
        input_buffer[...] = x
        with torch.inference_mode():
            on_device = x_NCHW.to("cuda", non_blocking=True).to(memory_format=layout)
            y_host.copy_(module(on_device), non_blocking=True)
            torch.cuda.current_stream().synchronize()
        return output.copy()

    return call
