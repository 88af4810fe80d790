"""Sockets of the data plane: mutual TLS 1.3 with pinned fingerprints, TCP options, time limits."""

import contextlib
import os
import socket
import ssl
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from jmsnas.deploy.transport.channel import Identity, server_name
from jmsnas.deploy.transport.identity import fingerprint
from jmsnas.errors import CertificateError

HANDSHAKE_S = 3.0


def connect(address: str, name: str, pin: str, identity: Identity | None) -> socket.socket:
    """Connect to a port of the device `name`, whose certificate must have the fingerprint `pin`.

    Without an identity the connection is not encrypted; for loopback only. Raises OSError (of ssl too), and
    CertificateError when the certificate is of another key.
    """
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host.strip("[]"), int(port)), HANDSHAKE_S)
    try:
        # Before the handshake: the first request could wait 40 ms otherwise.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if identity is None:
            return connection
        encrypted = client_context(identity).wrap_socket(connection, server_hostname=server_name(name))
    except BaseException:
        connection.close()
        raise
    if (found := peer_fingerprint(encrypted)) != pin:
        encrypted.close()
        raise CertificateError(f"its key is {found[:12]}, expected {pin[:12]}: check devices.toml")
    return encrypted


def device_certificate(address: str, name: str, pin: str, identity: Identity) -> bytes:
    """Return the certificate (PEM) that the device `name` shows on a port, whose key was checked.

    Raises OSError and CertificateError, as `connect`.
    """
    with connect(address, name, pin, identity) as connection:
        assert isinstance(connection, ssl.SSLSocket)
        return _certificate_pem(connection)


def peer_fingerprint(connection: socket.socket) -> str:
    """Return the fingerprint of the peer's certificate; empty without TLS."""
    if not isinstance(connection, ssl.SSLSocket):
        return ""
    return fingerprint(_certificate_pem(connection))


def _certificate_pem(connection: ssl.SSLSocket) -> bytes:
    return ssl.DER_cert_to_PEM_cert(connection.getpeercert(True) or b"").encode()


@lru_cache(maxsize=16)
def client_context(identity: Identity) -> ssl.SSLContext:
    """Return the settings of connections to other devices. Raises CertificateError."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, identity)
    # Required by gRPC on the control port, and ignored on the data port.
    context.set_alpn_protocols(["h2"])
    return context


@lru_cache(maxsize=16)
def server_context(identity: Identity) -> ssl.SSLContext:
    """Return the settings of accepted connections, with a certificate of the CA. Raises CertificateError."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, identity)
    context.verify_mode = ssl.CERT_REQUIRED
    # Tickets would be sent after the handshake, and connections are not resumed.
    context.num_tickets = 0
    return context


def _context(protocol: "ssl._SSLMethod", identity: Identity) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cadata=identity.ca_pem.decode("ascii"))
        with _private_file(identity.certificate_pem + b"\n" + identity.key_pem) as path:
            context.load_cert_chain(path)
    except (ssl.SSLError, ValueError) as error:
        raise CertificateError(
            f"the certificate of {identity.name} cannot be used: run jmsnas certs again"
        ) from error
    return context


@contextlib.contextmanager
def _private_file(content: bytes) -> Iterator[str]:
    """Give the path of a file that only this process can read: ssl reads keys from files only."""
    if hasattr(os, "memfd_create"):  # never on a disk
        number = os.memfd_create("identity", os.MFD_CLOEXEC)
        try:
            os.write(number, content)
            yield f"/proc/self/fd/{number}"
        finally:
            os.close(number)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "identity.pem"
        path.touch(0o600)
        path.write_bytes(content)
        yield str(path)
