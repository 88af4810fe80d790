"""The one set of gRPC settings and credentials: agents, leader and tests all take them from here.

grpcio's `keepalive_timeout_ms` alone does nothing: a frozen peer is noticed by `http2.ping_timeout_ms`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

SERVICE = "jmsnas.Agent"
MAX_MESSAGE_BYTES = 16 << 20
# A blob travels in pieces: well under the limit of one message, and few enough that calls cost nothing.
CHUNK_BYTES = 4 << 20
# Requests that wait for the processor; requests under way in all, those waiting for the next device included.
MAX_QUEUED, MAX_IN_FLIGHT = 8, 32

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
    # It counts calls that were cancelled until Python has freed them, and refuses others in their place.
    ("grpc.http.overload_protection", 0),
    # Connections that say nothing are closed within three seconds.
    ("grpc.server_handshake_timeout_ms", 2500),
    # Below the client's interval, else the server ends the connection with "too_many_pings"; a host that
    # stands still for seconds sends its pings in a bunch, so that none is counted.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
    # So that a renewed certificate is met by every peer within the hour.
    ("grpc.max_connection_age_ms", 3_600_000),
    ("grpc.max_connection_age_grace_ms", 60_000),
    ("grpc.so_reuseport", 0),
)
CLIENT_OPTIONS = (
    *_BOTH,
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a process is on the network: its name, its certificate and key, and the CA it trusts (PEM)."""

    name: str
    ca_pem: bytes
    certificate_pem: bytes
    key_pem: bytes


def open_channel(address: str, name: str, identity: Identity | None) -> Any:
    """Open a channel to the device `name`: mutual TLS, its certificate must be of that name.

    Without an identity the channel is plain, which only loopback may be.
    """
    if identity is None:
        return grpc.insecure_channel(address, CLIENT_OPTIONS)
    credentials = grpc.ssl_channel_credentials(identity.ca_pem, identity.key_pem, identity.certificate_pem)
    named = (("grpc.ssl_target_name_override", server_name(name)),)
    return grpc.secure_channel(address, credentials, (*CLIENT_OPTIONS, *named))


def server_credentials(read: Callable[[], Identity]) -> Any:
    """Server side of mutual TLS; `read` is asked at each handshake, so that a renewed certificate is met."""
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
    """Give the name in the certificate of a device."""
    return f"{name.replace('_', '-')}.jmsnas"
