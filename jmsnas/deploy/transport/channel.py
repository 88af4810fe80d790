"""gRPC channel and server options, message limits, and mutual TLS credentials.

grpcio's `keepalive_timeout_ms` alone has no effect: a frozen peer is detected by `http2.ping_timeout_ms`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

SERVICE = "jmsnas.Agent"
MAX_MESSAGE_BYTES = 16 << 20
# Blobs are sent in chunks: well below the limit of one message, and large enough that calls cost little.
CHUNK_BYTES = 4 << 20
# Requests that wait for the processor; requests in flight, those that wait for the next device included. The
# second bound is also the number that a link sends before it waits for responses.
MAX_QUEUED, MAX_IN_FLIGHT, MAX_IN_FLIGHT_PER_CALLER = 8, 32, 24
# Calls that exist at a time, those about to be refused included: bounds memory under a flood.
MAX_CALLS = 256

_BOTH: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 1000),
    ("grpc.keepalive_timeout_ms", 1000),
    ("grpc.http2.ping_timeout_ms", 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.default_compression_algorithm", 0),
)
SERVER_OPTIONS = (
    *_BOTH,
    ("grpc.max_concurrent_streams", 16),
    # It counts cancelled calls until Python has freed them, and refuses others instead.
    ("grpc.http.overload_protection", 0),
    # Connections without a handshake are closed within three seconds.
    ("grpc.server_handshake_timeout_ms", 2500),
    # Below the client's interval, else the server ends the connection with "too_many_pings". A host that
    # freezes for seconds sends its pings at once, so that none is counted.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
    # Every peer sees a renewed certificate within an hour.
    ("grpc.max_connection_age_ms", 3_600_000),
    ("grpc.max_connection_age_grace_ms", 60_000),
    ("grpc.so_reuseport", 0),
)
CLIENT_OPTIONS = (
    *_BOTH,
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Time of an attempt to connect: small boards and slow links need more than 100 ms.
    ("grpc.min_reconnect_backoff_ms", 3000),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


@dataclass(frozen=True, slots=True)
class Identity:
    """Name, certificate and key of a process, and the CA it trusts (PEM)."""

    name: str
    ca_pem: bytes
    certificate_pem: bytes
    key_pem: bytes


def open_channel(address: str, name: str, identity: Identity | None, certificate_pem: bytes = b"") -> Any:
    """Open a channel to the device `name` with mutual TLS.

    Its certificate must be `certificate_pem`, or, where that is empty, one of the CA for its name. Without an
    identity the channel is not encrypted; for loopback only.
    """
    if identity is None:
        return grpc.insecure_channel(address, CLIENT_OPTIONS)
    # gRPC accepts the certificate of the device itself as a root, and then no other.
    root_pem = certificate_pem or identity.ca_pem
    credentials = grpc.ssl_channel_credentials(root_pem, identity.key_pem, identity.certificate_pem)
    named = (("grpc.ssl_target_name_override", server_name(name)),)
    return grpc.secure_channel(address, credentials, (*CLIENT_OPTIONS, *named))


def server_credentials(read: Callable[[], Identity]) -> Any:
    """Return server credentials for mutual TLS; `read` is called at each handshake."""
    current = read()

    def configuration(identity: Identity) -> Any:
        pair = ((identity.key_pem, identity.certificate_pem),)
        return grpc.ssl_server_certificate_configuration(pair, root_certificates=identity.ca_pem)

    def fetch() -> Any:
        nonlocal current
        found = read()
        if found == current:
            return None
        current = found
        return configuration(found)

    return grpc.dynamic_ssl_server_credentials(
        configuration(current), fetch, require_client_authentication=True
    )


def server_name(name: str) -> str:
    """Return the DNS name in the certificate of a device."""
    return f"{name.replace('_', '-')}.jmsnas"
