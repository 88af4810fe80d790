"""Chains of relay processes on loopback that only pass messages on, to compare the agents with.

    sockets   plain TCP
    tls       mutual TLS 1.3 by `ssl` sockets
    grpc      unary calls without TLS, each inside the one before it

Over sockets, one thread of a relay reads a message, a length and a body, and sends it on in one call; another
sends the answers back. The last relay answers with the message. A relay writes the time of the monotonic
clock, in nanoseconds, at which it has read the message: into its body, by gRPC in front of the answer.
"""

import argparse
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc

from jmsnas.deploy.transport.channel import CLIENT_OPTIONS, SERVER_OPTIONS, server_name
from jmsnas.deploy.transport.identity import read_identity
from jmsnas.deploy.transport.tls import client_context, server_context

KINDS = ("sockets", "tls", "grpc")
_LENGTH, _TIME = struct.Struct("<Q"), struct.Struct("<q")

# Sends a body through a chain; returns the times at which the relays had read it.
Echo = Callable[[bytes], list[int]]


def start_chain(kind: str, count: int, certs: Path, stack: ExitStack) -> Echo:
    """Start `count` relays of a kind, and return a function that sends a message through them and back."""
    address = ""
    for index in reversed(range(count)):
        command = [sys.executable, __file__, kind, str(index), address or "-", str(certs)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        stack.callback(process.wait)
        stack.callback(process.kill)
        assert process.stdout is not None
        address = process.stdout.readline().strip()
    if kind == "grpc":
        channel = grpc.insecure_channel(address, CLIENT_OPTIONS)
        stack.callback(channel.close)
        call = channel.unary_unary("/x/Run")
        return lambda body: list(struct.unpack_from(f"<{count}q", call(body)))
    connected = connect(kind, address, certs)
    stack.callback(connected.close)

    def echo(body: bytes) -> list[int]:
        send(connected, body)
        return list(struct.unpack_from(f"<{count}q", receive(connected)))

    return echo


def relay_sockets(kind: str, index: int, target: str, certs: Path) -> None:
    """Relay messages to `target`, and the answers back; echo them without a target."""
    far = connect(kind, target, certs) if target else None
    server = socket.create_server(("127.0.0.1", 0))
    print(f"127.0.0.1:{server.getsockname()[1]}", flush=True)
    near, _ = server.accept()
    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if kind == "tls":
        near = server_context(read_identity(certs)).wrap_socket(near, server_side=True)
    if far is not None:
        threading.Thread(target=send_back, args=(far, near), daemon=True).start()
    while True:
        body = receive(near)
        _TIME.pack_into(body, 8 * index, time.monotonic_ns())
        send(far or near, body)


def send_back(far: socket.socket, near: socket.socket) -> None:
    """Relay the answers."""
    while True:
        send(near, receive(far))


def relay_grpc(index: int, target: str) -> None:
    """Relay unary calls to `target`; echo them without a target."""
    far = grpc.insecure_channel(target, CLIENT_OPTIONS).unary_unary("/x/Run") if target else None

    def run(request: bytes, context: Any) -> bytes:
        arrived = _TIME.pack(time.monotonic_ns())
        return arrived + (far(request) if far else request)

    server = grpc.server(ThreadPoolExecutor(8), options=SERVER_OPTIONS)
    handler = grpc.method_handlers_generic_handler("x", {"Run": grpc.unary_unary_rpc_method_handler(run)})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


def connect(kind: str, address: str, certs: Path) -> socket.socket:
    """Connect to a relay."""
    host, _, port = address.rpartition(":")
    connected = socket.create_connection((host, int(port)))
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if kind != "tls":
        return connected
    identity = read_identity(certs)
    return client_context(identity).wrap_socket(connected, server_hostname=server_name(identity.name))


def send(connected: socket.socket, body: bytes | bytearray) -> None:
    """Send a message in one call."""
    connected.sendall(_LENGTH.pack(len(body)) + body)


def receive(connected: socket.socket) -> bytearray:
    """Receive a message of `send`."""
    (size,) = _LENGTH.unpack(exactly(connected, _LENGTH.size))
    return exactly(connected, size)


def exactly(connected: socket.socket, size: int) -> bytearray:
    """Read exactly `size` bytes; ends the process when the peer closes."""
    content = bytearray(size)
    view, at = memoryview(content), 0
    while at < size:
        read = connected.recv_into(view[at:])
        if not read:
            os._exit(0)
        at += read
    return content


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=("sockets", "tls", "grpc"))
    parser.add_argument("index", type=int)
    parser.add_argument("target", help="HOST:PORT of the next relay, or - for the last one")
    parser.add_argument("certs", type=Path)
    own = parser.parse_args()
    own_target = own.target.strip("-")
    if own.kind == "grpc":
        relay_grpc(own.index, own_target)
    else:
        relay_sockets(own.kind, own.index, own_target, own.certs)
