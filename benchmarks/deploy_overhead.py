"""Overhead of the agents: a 1 MB tensor echoed through two agents, compared with raw sockets and plain gRPC.

All run on loopback, in separate processes, interleaved in one run, so that the ratios are valid on a busy
machine. Also measures memory and CPU of an idle agent, and the modules that its process has loaded.
"""

import argparse
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx_ir as ir
from harness import benchmark_parser, finish
from torch import nn

from jmsnas.deploy.leader.leader import Leader
from jmsnas.deploy.loopback import LoopbackAgent, leader_certs, loopback_agents
from jmsnas.deploy.parts.export import ExportedModel
from jmsnas.deploy.parts.shipment import NextHop, PartSpec
from jmsnas.deploy.transport.channel import CLIENT_OPTIONS, SERVER_OPTIONS

SHAPE = (1, 1, 512, 512)
# An agent does more than a socket: validation, deduplication, routing; with mutual TLS also encryption.
PLAIN_BAR, TLS_BAR, RSS_BAR, CPU_BAR = 5.0, 10.0, 160 << 20, 0.02
HEAVY = ("torch", "sklearn", "pandas", "matplotlib", "torchvision", "onnx", "pyarrow", "google.protobuf")


def raw_relay(target: str) -> None:
    """Echo messages, or relay them and their echoes: [8 bytes of length][bytes]."""
    server = socket.create_server(("127.0.0.1", 0))
    print(f"x listens on 127.0.0.1:{server.getsockname()[1]}", flush=True)
    near, _ = server.accept()
    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    far = connect(target) if target else None
    while True:
        content = receive(near)
        if far:
            send(far, content)
            content = receive(far)
        send(near, content)


def grpc_relay(target: str) -> None:
    """Echo or relay messages by gRPC, without TLS."""
    far = grpc.insecure_channel(target, CLIENT_OPTIONS).unary_unary("/x/Run") if target else None

    def run(request: bytes, context: Any) -> bytes:
        return far(request) if far else request

    from concurrent.futures import ThreadPoolExecutor

    server = grpc.server(ThreadPoolExecutor(8), options=SERVER_OPTIONS)
    handler = grpc.method_handlers_generic_handler("x", {"Run": grpc.unary_unary_rpc_method_handler(run)})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"x listens on 127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


def connect(address: str) -> socket.socket:
    """Connect with TCP_NODELAY."""
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host, int(port)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def send(connection: socket.socket, content: bytes) -> None:
    """Send a message, preceded by its length."""
    connection.sendall(struct.pack(">Q", len(content)) + content)


def receive(connection: socket.socket) -> bytes:
    """Receive a message of `send`."""
    (size,) = struct.unpack(">Q", exactly(connection, 8))
    return exactly(connection, size)


def exactly(connection: socket.socket, size: int) -> bytes:
    """Read exactly `size` bytes; exits when the peer closes."""
    content = bytearray(size)
    view, at = memoryview(content), 0
    while at < size:
        read = connection.recv_into(view[at:])
        if not read:
            sys.exit(0)
        at += read
    return bytes(content)


def relays(kind: str, stack: ExitStack) -> str:
    """Start two relays of a kind, and return the address of the first."""
    address = ""
    for _ in range(2):
        command = [sys.executable, __file__, "--relay", kind, "--target", address]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        stack.callback(process.wait)
        stack.callback(process.kill)
        assert process.stdout is not None
        address = process.stdout.readline().strip().rpartition(" ")[2]
    return address


def agents(plain: bool, stack: ExitStack) -> tuple[Callable[[], None], dict[str, LoopbackAgent]]:
    """Start two agents that relay tensors, and return a function that sends one through them."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jmsnas-")))
    found = stack.enter_context(loopback_agents(("one", "two"), folder, plain))
    leader = Leader(leader_certs(folder), {n: agent.address for n, agent in found.items()}, plain)
    stack.callback(leader.close)
    nothing = ir.Model(ir.Graph([], [], nodes=[], opset_imports={"": 20}), ir_version=10)
    model = ExportedModel(nn.Sequential(), nothing, (), (SHAPE,))
    part_specs = (PartSpec("one", "chain", 1, 0, (NextHop("two"),)), PartSpec("two", "chain", 1, 0, ()))
    leader.ship(part_specs, {"chain": model})
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)

    def echo() -> None:
        answer = leader.infer(x)
        assert answer.logits.shape == SHAPE

    return echo, found


def idle(agent: LoopbackAgent, seconds: float) -> tuple[int, float]:
    """Memory in bytes, and share of a core, of an idle agent."""
    pid = agent.process.pid

    def ticks() -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(seconds)
    used = (ticks() - before) / os.sysconf("SC_CLK_TCK") / seconds
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"), used


def loaded() -> list[str]:
    """Heavy modules that an agent's process has loaded."""
    script = f"import sys, jmsnas.deploy.agent.agent; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--relay", choices=("raw", "grpc"), help=argparse.SUPPRESS)
    parser.add_argument("--target", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def echoed(rounds: int) -> tuple[dict[str, float], int, float]:
    """Median seconds of each kind of relay, interleaved, and memory and CPU of an idle agent."""
    content = bytes(4 * int(np.prod(SHAPE)))
    with ExitStack() as stack:
        raw = connect(relays("raw", stack))
        channel = grpc.insecure_channel(relays("grpc", stack), CLIENT_OPTIONS)
        stack.callback(channel.close)
        stack.callback(raw.close)
        by_grpc = channel.unary_unary("/x/Run")
        plain, _ = agents(True, stack)
        tls, found = agents(False, stack)

        def by_socket() -> None:
            send(raw, content)
            receive(raw)

        ways: dict[str, Callable[[], Any]] = {
            "raw sockets": by_socket,
            "plain gRPC": lambda: by_grpc(content),
            "agents, plain": plain,
            "agents, mutual TLS": tls,
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 5):
            for name, way in ways.items():
                began = time.perf_counter()
                way()
                if number >= 5:
                    taken[name].append(time.perf_counter() - began)
        rss, cpu = idle(found["one"], 10.0)
    return {name: float(np.median(seconds)) for name, seconds in taken.items()}, rss, cpu


def main() -> None:
    """Measure, print, and check."""
    arguments = parse_arguments()
    if arguments.relay:
        {"raw": raw_relay, "grpc": grpc_relay}[arguments.relay](arguments.target)
        return
    medians, rss, cpu = echoed(arguments.rounds)
    ratios = {name: seconds / medians["raw sockets"] for name, seconds in medians.items()}
    for name, seconds in medians.items():
        print(f"{name:<20} {1e3 * seconds:7.2f} ms   {ratios[name]:5.1f} x raw sockets")
    heavy = loaded()
    print(f"idle agent: {rss / 2**20:.0f} MB, {cpu:.1%} of a core; heavy modules loaded: {heavy or 'none'}")
    found = (
        ("agents, plain, over raw sockets", ratios["agents, plain"], PLAIN_BAR),
        ("agents, mutual TLS, over raw sockets", ratios["agents, mutual TLS"], TLS_BAR),
        ("memory of an idle agent, bytes", rss, RSS_BAR),
        ("CPU of an idle agent, cores", cpu, CPU_BAR),
        ("heavy modules", len(heavy), 0),
    )
    short = [f"{name}: {value:.3g} > {bar:.3g}" for name, value, bar in found if value > bar]
    figures = {"median_s": medians, "ratios": ratios, "idle_rss_bytes": rss}
    finish(arguments, {**figures, "idle_cores": cpu, "heavy_modules": heavy}, short)


if __name__ == "__main__":
    main()
