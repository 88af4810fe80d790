"""A gRPC channel to one device that accepts only the certificate of the pinned key.

gRPC trusts roots, not keys: the certificate that the device shows is fetched by a handshake, its key is
checked, and a channel is opened whose only root is that certificate. So it connects to no other key, also
when it connects again. A device with a renewed certificate needs another channel.
"""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import grpc

from jmsnas.deploy.transport.channel import Identity, open_channel
from jmsnas.deploy.transport.data_link import Target, cause_of, lost
from jmsnas.deploy.transport.tls import device_certificate
from jmsnas.errors import CertificateError

T = TypeVar("T")


class ControlChannel:
    """Calls to the control port of a device, which `target` has. Call `close` at the end."""

    def __init__(self, target: Target, identity: Identity | None) -> None:
        self._target, self._identity = target, identity
        self._lock = threading.Lock()
        # The last one is used; calls in progress may use those before.
        self._channels: list[Any] = []
        self._certificate_pem = b""

    def call(self, call: Callable[[Any], T]) -> T:
        """Make a call by the channel; again if the device has another certificate than the channel accepts.

        Raises grpc.RpcError, and RequestRefusedError when the device cannot be reached or has another key.
        """
        with self._lock:
            if not self._channels:
                self._open()
            channel = self._channels[-1]
        try:
            return call(channel)
        except grpc.RpcError as error:  # of the handshake: the call has not begun
            if "CERTIFICATE_VERIFY_FAILED" not in (error.details() or ""):
                raise
        with self._lock:
            if channel is self._channels[-1]:
                self._open()
            channel = self._channels[-1]
        return call(channel)

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            for channel in self._channels:
                channel.close()

    def _open(self) -> None:
        """Open a channel, unless the last one accepts the certificate that the device has now."""
        name, address, pin = self._target.name, self._target.address, self._target.fingerprint
        shown_pem = b""
        if self._identity is not None:
            try:
                shown_pem = device_certificate(address, name, pin, self._identity)
            except (OSError, ValueError, CertificateError) as error:
                raise lost(name, cause_of(error)) from None
        if not self._channels or shown_pem != self._certificate_pem:
            self._certificate_pem = shown_pem
            self._channels.append(open_channel(address, name, self._identity, shown_pem))
