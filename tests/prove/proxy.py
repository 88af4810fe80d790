"""A TCP proxy of an agent that forwards, can freeze links, delay or drop answers, and close connections."""

import contextlib
import socket
import threading

from jmsnas.deploy.transport.devices_file import AgentAddress


class Proxy:
    """Forwards to both ports of an agent, control and data, until its flags are set; `target` may change."""

    def __init__(self, target: AgentAddress) -> None:
        self.target, self._servers = target, _adjacent_ports()
        host, port = self._servers[0].getsockname()
        self.address = AgentAddress(target.name, f"{host}:{port}", target.fingerprint)
        self.frozen = threading.Event()
        self.drop_answers, self.late_answers = False, threading.Event()
        self._pairs: list[socket.socket] = []
        self._open = True
        for number in range(2):
            threading.Thread(target=self._accept, args=(number,), daemon=True).start()

    def _accept(self, number: int) -> None:
        server = self._servers[number]
        while self._open:
            try:
                near, _ = server.accept()
            except OSError:
                continue
            host, _, port = (self.target.address, self.target.data_address)[number].rpartition(":")
            try:
                far = socket.create_connection((host, int(port)), 2)
            except OSError:
                near.close()
                continue
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pairs += [near, far]
            for source, sink, back in ((near, far, False), (far, near, True)):
                threading.Thread(target=self._pump, args=(source, sink, back), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, back: bool) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(1 << 16):
                while (self.frozen.is_set() or (back and self.late_answers.is_set())) and self._open:
                    threading.Event().wait(0.005)
                if back and self.drop_answers:
                    break
                sink.sendall(content)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.close()

    def cut(self) -> None:
        """Close every connection; new ones are accepted."""
        for end in self._pairs:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def close(self) -> None:
        self._open = False
        self.frozen.clear()
        self.late_answers.clear()
        for server in self._servers:
            server.close()
        self.cut()


def _adjacent_ports() -> tuple[socket.socket, socket.socket]:
    """Listen on two free ports, the second above the first."""
    for _ in range(100):
        first = socket.create_server(("127.0.0.1", 0), backlog=128)
        try:
            return first, socket.create_server(("127.0.0.1", first.getsockname()[1] + 1), backlog=128)
        except OSError:
            first.close()
    raise AssertionError("no two free ports, one above the other")
