"""A TCP proxy that forwards, and can freeze the link, delay answers, drop them or close connections."""

import contextlib
import socket
import threading


class Proxy:
    """Forwards to an address until its flags are set."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self.frozen = threading.Event()
        self.drop_answers, self.late_answers = False, threading.Event()
        self._pairs: list[socket.socket] = []
        self._open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while self._open:
            try:
                near, _ = self._server.accept()
            except OSError:
                continue
            try:
                far = socket.create_connection(self._target, 2)
            except OSError:
                near.close()
                continue
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
        self._server.close()
        self.cut()
