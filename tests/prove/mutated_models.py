"""Read and run mutated ONNX models within 1 GB: SEED COUNT and a valid model on stdin, outcomes on stdout."""

import json
import random
import resource
import sys
from collections import Counter

import numpy as np

from jmsnas.deploy.parts.onnx_scan import scan_onnx
from jmsnas.errors import PartError
from jmsnas.profiler.timing.onnx_session import open_session

MEMORY_BYTES = 1 << 30


def mutated(rng: random.Random, honest: bytes) -> bytes:
    content = bytearray(honest)
    for _ in range(rng.randrange(1, 4)):
        at, kind = rng.randrange(len(content)), rng.randrange(4)
        if kind == 0:
            content[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            content[at] = rng.randrange(256)
        elif kind == 2:
            del content[at : at + rng.randrange(1, 9)]
        else:  # one piece of it overwrites another
            other = rng.randrange(len(content))
            content[at : at + 8] = content[other : other + 8]
    return bytes(content)


def tried(model: bytes) -> str:
    try:
        scan_onnx(model)
    except PartError:
        return "refused unread"
    try:
        session = open_session(model, 1)
        (entry,) = session.get_inputs()
        session.run(None, {entry.name: np.zeros(entry.shape, np.float32)})
    except Exception:  # onnxruntime's exceptions have no common base class
        return "refused by onnxruntime"
    return "ran, changed"


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    rng, honest = random.Random(int(sys.argv[1])), sys.stdin.buffer.read()
    print(json.dumps(Counter(tried(mutated(rng, honest)) for _ in range(int(sys.argv[2])))))


if __name__ == "__main__":
    main()
