"""HTTP server of a served model: address, TLS, bearer token, limits, and graceful stop."""

import ipaddress
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from jmsnas.deploy.serve.http_app import DEADLINE_S
from jmsnas.deploy.transport.identity import check_unreadable_by_others
from jmsnas.errors import CertificateError, InputError
from jmsnas.files import read_bytes

_MAX_CONNECTIONS = 256
_KEEP_ALIVE_S = 60
_TOKEN_LETTERS = 16, 1024
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Options of the HTTP server.

    Attributes
    ----------
    host, port
        Address to listen on; port 0 for a free one. Beyond loopback, TLS and a token are required.
    certificate, key
        PEM files of the certificate chain and of its private key, for TLS.
    token
        Bearer token that requests must have; empty for none.
    max_waiting
        Number of requests that may wait for others; further ones are refused.

    Raises
    ------
    InputError
        For an address beyond loopback without TLS or token, or a token that is too short.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    certificate: Path | None = None
    key: Path | None = None
    token: str = ""
    max_waiting: int = 64

    def __post_init__(self) -> None:
        """Refuse options that leave the server open to strangers."""
        if (self.certificate is None) != (self.key is None):
            raise InputError("got one of --tls-cert and --tls-key: expected both, or none")
        low, high = _TOKEN_LETTERS
        fits = low <= len(self.token) <= high and self.token.isascii() and self.token.isprintable()
        if self.token and not (fits and " " not in self.token):
            raise InputError(
                f"the token is not {low} to {high} printable ASCII characters without spaces. Make one with: "
                "openssl rand -hex 32"
            )
        if not _is_loopback(self.host) and not (self.certificate and self.token):
            raise InputError(
                f"--host {self.host} is not loopback: expected --tls-cert, --tls-key and --token-file (or "
                "JMSNAS_TOKEN) too, or --host 127.0.0.1"
            )

    @property
    def scheme(self) -> str:
        """`https` with TLS, else `http`."""
        return "https" if self.certificate else "http"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_token(path: Path) -> str:
    """Read a bearer token from a file. Raises CertificateError for one that others can read."""
    content = read_bytes(path, 4096, CertificateError, "a token")
    check_unreadable_by_others(path)
    return content.decode("ascii", "replace").strip()


@contextmanager
def listening_socket(options: HttpOptions) -> Iterator[socket.socket]:
    """Bind a socket to the address; `listen` is left to the server. Raises InputError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InputError(f"cannot listen on {options.host}: {error.strerror or error}. See --host") from error
    with bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(address)
        except OSError as error:
            raise InputError(
                f"cannot listen on {options.host} port {options.port}: {error.strerror}. Choose another with "
                "--port"
            ) from error
        yield bound


def tls_context(options: HttpOptions) -> ssl.SSLContext | None:
    """Return the settings of TLS, 1.2 or newer; None without a certificate. Raises CertificateError."""
    if options.certificate is None or options.key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        check_unreadable_by_others(options.key)
        # A password would be asked for on the terminal: none fits.
        context.load_cert_chain(options.certificate, options.key, password=lambda: b"")
    except (OSError, ValueError) as error:  # of ssl too
        reason = getattr(error, "strerror", "") or error
        raise CertificateError(
            f"cannot use {options.certificate} with {options.key}: {reason}. Expected a "
            "certificate chain and its private key, without a password, in PEM"
        ) from error
    return context


def make_server(app: ASGIApp, tls: ssl.SSLContext | None) -> uvicorn.Server:
    """Make a server of an application.

    It has at most 256 connections. h11 limits headers to 64 KiB; httptools, which is faster, has no limit.
    """
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        # Not a line for each malformed request of a stranger.
        log_level="error",
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(DEADLINE_S) + 1,
        ssl_context_factory=(lambda config, default: tls) if tls else None,
    )
    return uvicorn.Server(config)


def run_until_stopped(server: uvicorn.Server, bound: socket.socket) -> None:
    """Serve until SIGTERM or Ctrl-C; requests in flight are answered before it returns."""
    # The server raises a signal again when it has stopped.
    before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
    try:
        server.run([bound])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
