"""Probe torch on this host in a subprocess: its version, its GPU, and the overhead of one call.

A subprocess, so that the agent imports torch only for torch parts, and a broken torch cannot crash it.
"""

import subprocess
import sys
import time
from functools import cache
from itertools import repeat
from statistics import median

import msgspec

from jmsnas.deploy.transport.responses import CallSeconds, Text, Version

_TIMEOUT_S = 40.0
_BACK_TO_BACK = 10


class TorchInfo(msgspec.Struct, frozen=True):
    """torch's version; name of its GPU, or empty; seconds that a part takes beyond its blocks."""

    version: Version = ""
    cuda: Text = ""
    call_s: CallSeconds = 0.0


@cache
def probe_torch(processor: str) -> TorchInfo:
    """Probe torch once a process; the call is measured on `processor`, on the CPU where there is no CUDA.

    The result is empty where torch is not installed or cannot be imported: `jmsnas doctor` shows the reason.
    """
    command = [sys.executable, "-m", "jmsnas.deploy.parts.torch_probe", processor]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S, check=True
        )
        return msgspec.json.decode(done.stdout, type=TorchInfo)
    except (subprocess.SubprocessError, ValueError):
        return TorchInfo()


def main() -> None:
    """Probe torch, and print the result as one JSON line."""
    import torch

    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    call_s = _call_s("cuda" if cuda and sys.argv[1] == "cuda" else "cpu")
    print(msgspec.json.encode(TorchInfo(str(torch.__version__), cuda, call_s)).decode())


def _call_s(processor: str) -> float:
    """Seconds that a single call of the reference block takes beyond one of back-to-back calls."""
    import numpy as np
    import torch

    from jmsnas.blocks import build_module, example_input
    from jmsnas.deploy.parts.call_overhead import ROUNDS, single_call_s
    from jmsnas.deploy.parts.torch_runtime import module_callable
    from jmsnas.profiler.table.latency_table import REFERENCE_BLOCK

    x_NCHW = example_input(REFERENCE_BLOCK)
    shape = tuple(x_NCHW.shape)  # the output of the reference block has the shape of its input
    module = build_module(REFERENCE_BLOCK).eval().to(processor)
    call, x = module_callable(module, shape, shape, processor), x_NCHW.numpy()
    single_s, back_to_back_s = single_call_s(lambda: call(x)), []
    with torch.inference_mode():
        x_NCHW = torch.from_numpy(np.array(x)).to(processor)
        for _ in range(ROUNDS):
            began = time.perf_counter_ns()
            for _ in repeat(None, _BACK_TO_BACK):
                module(x_NCHW)
            if processor == "cuda":
                torch.cuda.synchronize()
            back_to_back_s.append((time.perf_counter_ns() - began) * 1e-9 / _BACK_TO_BACK)
    return max(0.0, single_s - median(back_to_back_s))


if __name__ == "__main__":
    main()
