"""A device's one process: it says what it is, takes parts from its leader, runs them and forwards.

No torch, no pandas, no typer: numpy, onnxruntime, grpcio and cryptography are enough on a small board.
"""

import argparse
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

from jmsnas.deploy.agent.forwarding import Forwarder
from jmsnas.deploy.agent.part_lifecycle import AgentParts
from jmsnas.deploy.agent.part_store import PartStore
from jmsnas.deploy.agent.request_handler import RequestHandler
from jmsnas.deploy.agent.service import rpc_handlers
from jmsnas.deploy.transport.channel import MAX_IN_FLIGHT, SERVER_OPTIONS, Identity, server_credentials
from jmsnas.deploy.transport.health import Health
from jmsnas.deploy.transport.identity import (
    expiry_warning,
    fingerprint,
    read_identity,
    read_leader_fingerprint,
    read_leader_key,
)
from jmsnas.errors import CertificateError, InputError, JmsnasError

DEFAULT_LISTEN = "127.0.0.1:7070"
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_IDENTITY_KEPT_S = 10.0
GRACE_S = 10.0


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """How an agent is started.

    Attributes
    ----------
    certs
        A device's folder that `jmsnas certs` made.
    store
        Where parts are kept.
    listen
        Address and port; port 0 takes any that is free.
    emulate
        Name of the device whose times it is to keep; empty where it answers as fast as it can.
    plain
        No TLS, on loopback alone.
    """

    certs: Path
    store: Path
    listen: str = DEFAULT_LISTEN
    emulate: str = ""
    plain: bool = False

    def __post_init__(self) -> None:
        """Refuse to speak in the clear beyond this host."""
        host = self.listen.rpartition(":")[0]
        if self.plain and host not in _LOOPBACK:
            raise InputError(
                f"--plain on {self.listen}: expected a loopback address such as 127.0.0.1:7070. "
                "Leave out --plain: devices then speak mutual TLS"
            )


class ReloadingIdentity:
    """The identity on disk, read again every 10 s: a renewed certificate is met without a restart."""

    def __init__(self, folder: Path, log: Callable[[str], None]) -> None:
        self._folder, self._say = folder, log
        self._lock = threading.Lock()
        self._identity, self._read_s = read_identity(folder), time.monotonic()
        self._warn()

    def __call__(self) -> Identity:
        """Give the newest identity that could be read."""
        with self._lock:
            if time.monotonic() - self._read_s > _IDENTITY_KEPT_S:
                self._read_s = time.monotonic()
                try:
                    found = read_identity(self._folder)
                except CertificateError:  # half copied: the old one is good until the next look
                    return self._identity
                if found != self._identity:
                    self._identity = found
                    self._warn()
            return self._identity

    def _warn(self) -> None:
        if warning := expiry_warning(self._identity):
            self._say(warning)


class Agent:
    """The server of one device; `start` it, then `wait` until `stop`."""

    def __init__(self, settings: AgentSettings, log: Callable[[str], None] | None = None) -> None:
        self.settings, self.log = settings, log or _say
        self.identity = ReloadingIdentity(settings.certs, self.log)
        self.name = self.identity().name
        self.hops = Forwarder(lambda: None if settings.plain else self.identity())
        own = fingerprint(self.identity().certificate_pem)
        self.parts = AgentParts(self.name, own, read_leader_key(settings.certs), PartStore(settings.store))
        leader = "" if settings.plain else read_leader_fingerprint(settings.certs)
        self.health = Health()
        requests = RequestHandler(self.name, self.parts, self.hops, self.health)
        self._pool = ThreadPoolExecutor(MAX_IN_FLIGHT + 8, "rpc")
        self._server = grpc.server(
            self._pool, handlers=(), options=SERVER_OPTIONS, maximum_concurrent_rpcs=MAX_IN_FLIGHT + 4
        )
        self._server.add_generic_rpc_handlers(
            (*rpc_handlers(self, requests, leader), *self.health.handlers())
        )
        self.address = ""

    def start(self) -> str:
        """Take up the parts kept on disk, listen, and give the address."""
        for trouble in self.parts.reload():
            self.log(trouble)
        host = self.settings.listen.rpartition(":")[0]
        try:
            port = (
                self._server.add_insecure_port(self.settings.listen)
                if self.settings.plain
                else self._server.add_secure_port(self.settings.listen, server_credentials(self.identity))
            )
        except RuntimeError as error:
            raise InputError(
                f"cannot listen on {self.settings.listen}: is another agent there? Choose another port "
                "with --listen"
            ) from error
        self.address = f"{host}:{port}"
        self._server.start()
        self.health.serving = True
        return self.address

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Drain: refuse what is new, finish what is under way, end."""
        self.health.serving = False
        self._server.stop(grace_s).wait()
        self.hops.close()
        self.parts.close()

    def wait(self) -> None:
        """Wait until the server has ended."""
        self._server.wait_for_termination()


def main(arguments: list[str] | None = None) -> int:
    """Run an agent until SIGTERM or Ctrl-C: the light way to `jmsnas agent`."""
    parser = argparse.ArgumentParser(prog="jmsnas-agent", description=__doc__.partition("\n")[0])
    parser.add_argument("--certs", type=Path, required=True, help="this device's folder from jmsnas certs")
    parser.add_argument("--store", type=Path, default=Path("jmsnas-agent"), help="where parts are kept")
    parser.add_argument("--listen", default=DEFAULT_LISTEN, help="address:port (default: %(default)s)")
    parser.add_argument("--emulate", default="", metavar="DEVICE", help="answer no sooner than DEVICE would")
    parser.add_argument("--plain", action="store_true", help="no TLS; on loopback alone")
    parser.add_argument(
        "--until-stdin-ends", action="store_true", help="end with the process that started it"
    )
    given = parser.parse_args(arguments)
    try:
        settings = AgentSettings(given.certs, given.store, given.listen, given.emulate, given.plain)
        return run(settings, given.until_stdin_ends)
    except JmsnasError as error:
        _say(f"jmsnas-agent: {error}")
        return error.exit_code


def run(settings: AgentSettings, until_stdin_ends: bool = False) -> int:
    """Serve until a signal, or the end of stdin; the address is the one line on stdout."""
    agent = Agent(settings)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    print(f"{agent.name} listens on {agent.start()}", flush=True)
    if until_stdin_ends:
        threading.Thread(target=_stop_at_end, args=(stopping,), daemon=True).start()
    stopping.wait()
    agent.stop()
    return 0


def _stop_at_end(stopping: threading.Event) -> None:
    os.read(0, 1)  # nothing is ever written: it returns when the other end is closed
    stopping.set()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
