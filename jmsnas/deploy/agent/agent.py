"""The agent process of a device: receives parts from its leader, runs requests, and forwards.

The control plane (gRPC) listens on the given port, the data plane on the port above it.

It needs numpy, onnxruntime, grpcio, cryptography and msgspec only: no torch, pandas or typer.
"""

import argparse
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc

from jmsnas.deploy.agent.data_server import DataServer
from jmsnas.deploy.agent.forwarding import Forwarder
from jmsnas.deploy.agent.part_lifecycle import AgentParts
from jmsnas.deploy.agent.part_store import PartStore
from jmsnas.deploy.agent.request_handler import RequestHandler
from jmsnas.deploy.agent.service import rpc_handlers
from jmsnas.deploy.transport.channel import (
    MAX_CALLS,
    SERVER_OPTIONS,
    Identity,
    server_credentials,
)
from jmsnas.deploy.transport.devices_file import MAX_PORT, PORT
from jmsnas.deploy.transport.health import Health
from jmsnas.deploy.transport.identity import (
    expiry_warning,
    fingerprint,
    read_identity,
    read_leader_fingerprint,
    read_leader_key,
)
from jmsnas.deploy.transport.liveness import Liveness
from jmsnas.errors import CertificateError, InputError, JmsnasError
from jmsnas.workspace import check_name

DEFAULT_LISTEN = "127.0.0.1:7070"
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_IDENTITY_KEPT_S = 10.0
GRACE_S = 10.0
_TRIES = 20


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """Settings of an agent process.

    Attributes
    ----------
    certs
        The device's folder made by `jmsnas certs`.
    store
        Folder of the parts.
    listen
        ADDRESS:PORT; port 0 chooses a free one.
    emulate
        Name of a device whose compute times are emulated; empty for none.
    plain
        No TLS; on loopback only.
    """

    certs: Path
    store: Path
    listen: str = DEFAULT_LISTEN
    emulate: str = ""
    plain: bool = False

    def __post_init__(self) -> None:
        """Raise InputError for a wrong address or one not fit for `plain`, DeviceError for a wrong name."""
        if self.emulate:
            check_name(self.emulate)
        host, _, port = self.listen.rpartition(":")
        if not host or not PORT.fullmatch(port) or int(port) >= MAX_PORT:
            raise InputError(
                f"--listen {self.listen}: expected ADDRESS:PORT, as in {DEFAULT_LISTEN}, with a port up to "
                f"{MAX_PORT - 1}, as the one above it is used too; 0 chooses free ones"
            )
        if self.plain and host not in _LOOPBACK:
            raise InputError(
                f"--plain on {self.listen}: expected a loopback address such as 127.0.0.1:7070. "
                "Without --plain, devices use mutual TLS"
            )


class ReloadingIdentity:
    """The identity on disk, read again every 10 s: a renewed certificate needs no restart."""

    def __init__(self, folder: Path, log: Callable[[str], None]) -> None:
        self._folder, self._log = folder, log
        self._lock = threading.Lock()
        self._identity, self._read_s = read_identity(folder), time.monotonic()
        self._warn()

    def __call__(self) -> Identity:
        """Return the newest identity that could be read."""
        with self._lock:
            if time.monotonic() - self._read_s > _IDENTITY_KEPT_S:
                self._read_s = time.monotonic()
                try:
                    found = read_identity(self._folder)
                except (CertificateError, OSError):  # half copied: use the old one until the next time
                    return self._identity
                if found != self._identity:
                    self._identity = found
                    self._warn()
            return self._identity

    def _warn(self) -> None:
        if warning := expiry_warning(self._identity):
            self._log(warning)


class Agent:
    """The servers of one device: `start`, `stop`."""

    def __init__(self, settings: AgentSettings, log: Callable[[str], None] | None = None) -> None:
        self.settings, self.log = settings, log or _log
        self.identity = ReloadingIdentity(settings.certs, self.log)
        self.name = self.identity().name
        self.liveness = Liveness()

        def identity() -> Identity | None:
            return None if settings.plain else self.identity()

        self.forwarder = Forwarder(identity, self.liveness)
        own = fingerprint(self.identity().certificate_pem)
        self.parts = AgentParts(self.name, own, read_leader_key(settings.certs), PartStore(settings.store))
        leader = "" if settings.plain else read_leader_fingerprint(settings.certs)
        self.health = Health()
        self.requests = RequestHandler(self.name, self.parts, self.forwarder, self.health)
        self.data = DataServer(self.name, self.requests, identity, self.liveness, self.log)
        # Other devices have at most 4 watchers: threads are left for calls of the leader, and for refusals.
        pool = ThreadPoolExecutor(24, "rpc")
        self._server = grpc.server(pool, options=SERVER_OPTIONS, maximum_concurrent_rpcs=MAX_CALLS)
        self._server.add_generic_rpc_handlers((*rpc_handlers(self, leader), *self.health.handlers()))
        self.address = ""

    def start(self) -> str:
        """Load the parts on disk, listen, and return the address."""
        for warning in self.parts.reload():
            self.log(warning)
        host, _, given = self.settings.listen.rpartition(":")
        for attempt in range(_TRIES):
            try:
                self.address = self._bind(host, int(given))
                break
            except (RuntimeError, OSError) as error:
                if int(given) or attempt == _TRIES - 1:
                    raise InputError(
                        f"cannot listen on {self.settings.listen} and the port above it: is another agent "
                        "there? Choose another port with --listen"
                    ) from error
        self._server.start()
        self.data.start()
        self.health.serving = True
        return self.address

    def _bind(self, host: str, port: int) -> str:
        """Bind the control plane to `port`, 0 for a free one, and the data plane to the port above it."""
        data = self.data.listen(host, port + 1 if port else 0)
        control = f"{host}:{data - 1}"
        if self.settings.plain:
            self._server.add_insecure_port(control)
        else:
            self._server.add_secure_port(control, server_credentials(self.identity))
        return control

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Shut down: refuse new requests, finish those in flight, stop the server."""
        self.health.serving = False
        ends_s = time.monotonic() + grace_s
        stopped = self._server.stop(grace_s)
        while self.requests.in_flight and time.monotonic() < ends_s:
            time.sleep(0.01)
        stopped.wait()
        self.data.stop()
        self.forwarder.close()
        self.liveness.close()
        self.parts.close()


def main(arguments: list[str] | None = None) -> int:
    """Run the `jmsnas-agent` command: `jmsnas agent` with fewer dependencies, until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="jmsnas-agent", description=__doc__.partition("\n")[0])
    parser.add_argument("--certs", type=Path, required=True, help="this device's folder from jmsnas certs")
    parser.add_argument("--store", type=Path, default=Path("jmsnas-agent"), help="folder of the parts")
    parser.add_argument("--listen", default=DEFAULT_LISTEN, help="ADDRESS:PORT (default: %(default)s)")
    parser.add_argument("--emulate", default="", metavar="DEVICE", help="emulate the compute times of DEVICE")
    parser.add_argument("--plain", action="store_true", help="no TLS; on loopback only")
    parser.add_argument(
        "--until-stdin-ends", action="store_true", help="end with the process that started it"
    )
    given = parser.parse_args(arguments)
    try:
        settings = AgentSettings(given.certs, given.store, given.listen, given.emulate, given.plain)
        return run(settings, given.until_stdin_ends)
    except JmsnasError as error:
        _log(f"jmsnas-agent: {error}")
        return error.exit_code


def run(settings: AgentSettings, until_stdin_ends: bool = False) -> int:
    """Serve until a signal, or the end of stdin; print the address as one line."""
    agent = Agent(settings)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    address = agent.start()
    # The collector does not look at the modules again: that would empty the caches between requests.
    gc.collect()
    gc.freeze()
    print(f"{agent.name} listens on {address}", flush=True)
    if until_stdin_ends:
        threading.Thread(target=_stop_at_end, args=(stopping,), daemon=True).start()
    stopping.wait()
    agent.stop()
    return 0


def _stop_at_end(stopping: threading.Event) -> None:
    os.read(0, 1)  # nothing is written to it: returns when the other end is closed
    stopping.set()


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
