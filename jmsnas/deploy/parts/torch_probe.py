"""What torch is on this host: whether it finds CUDA, and what a call costs that comes unawaited.

Asked in a process apart, so that the agent itself imports torch for parts alone, and no torch can end it.
"""

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from functools import cache
from itertools import repeat
from statistics import median

_ASK_S = 40.0
_ROUNDS, _PAUSE_S, _IN_A_ROW = 31, 0.003, 10


@dataclass(frozen=True, slots=True)
class TorchInfo:
    """torch's version; name of the GPU it uses, or none; seconds that a part pays beside its blocks."""

    version: str = ""
    cuda: str = ""
    call_s: float = 0.0


@cache
def probe_torch(processor: str) -> TorchInfo:
    """Look once a process. The call is on `processor`, on the CPU where there is no CUDA.

    Nothing is found where torch is not installed or cannot be imported: `jmsnas doctor` says why.
    """
    command = [sys.executable, "-m", "jmsnas.deploy.parts.torch_probe", processor]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_ASK_S, check=True
        )
        told = json.loads(done.stdout)
        return TorchInfo(str(told["version"])[:100], str(told["cuda"])[:100], float(told["call_s"]))
    except (subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return TorchInfo()


def main() -> None:
    """Look, in the process apart; the answer is one JSON line."""
    import torch

    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    call_s = _call_s("cuda" if cuda and sys.argv[1] == "cuda" else "cpu")
    print(json.dumps(asdict(TorchInfo(str(torch.__version__), cuda, call_s))))


def _call_s(processor: str) -> float:
    """Seconds that the reference block takes more when it comes alone, as a part: cold caches, copies."""
    import numpy as np
    import torch

    from jmsnas.blocks import build_module, example_input
    from jmsnas.deploy.parts.torch_runtime import module_callable
    from jmsnas.profiler.table.latency_table import REFERENCE_BLOCK

    x_NCHW = example_input(REFERENCE_BLOCK)
    shape = tuple(x_NCHW.shape)  # the reference block keeps its input's
    module = build_module(REFERENCE_BLOCK).eval().to(processor)
    call, x = module_callable(module, shape, shape, processor), x_NCHW.numpy()
    alone, in_a_row = list[int](), list[float]()
    for _ in range(_ROUNDS):
        time.sleep(_PAUSE_S)
        began = time.perf_counter_ns()
        call(x)
        alone.append(time.perf_counter_ns() - began)
    with torch.inference_mode():
        x_NCHW = torch.from_numpy(np.array(x)).to(processor)
        for _ in range(_ROUNDS):
            began = time.perf_counter_ns()
            for _ in repeat(None, _IN_A_ROW):
                module(x_NCHW)
            if processor == "cuda":
                torch.cuda.synchronize()
            in_a_row.append((time.perf_counter_ns() - began) / _IN_A_ROW)
    return max(0.0, median(alone) - median(in_a_row)) * 1e-9


if __name__ == "__main__":
    main()
