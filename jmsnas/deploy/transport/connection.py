"""A connection of the data plane: frames over a TCP or TLS socket, read by one thread, written by any.

No thread blocks to write: what the socket does not take at once is sent by a thread of the connection. So a
thread that reads never waits for another connection, and no cycle of devices can wait for each other.
"""

import math
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import grpc

from jmsnas.deploy.transport.frame import Admit, Frame, FrameReader, Kind, pack_head
from jmsnas.deploy.transport.refusal import RequestRefusedError, error_text
from jmsnas.errors import FrameError

HEARTBEAT_S = 0.5
# Silence after which a peer is lost: while requests wait for it, and otherwise.
SILENCE_S, IDLE_SILENCE_S = 2.5, 30.0
# Time to read what a peer still sends after an error, and longest queue of what is to be sent.
_LINGER_S = 0.5
_MAX_QUEUED_BYTES = 64 << 20
# Bytes of a TLS record: the beginning of a body is sent in that of the head.
_RECORD_BYTES = 16 << 10
_WOULD_BLOCK = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError, InterruptedError)


class ConnectionLostError(Exception):
    """A connection that has ended, and why."""


class Connection:
    """Frames over a connected socket.

    `admit` is that of `FrameReader`. `expecting` tells whether a request waits for the peer, whose silence is
    then noticed soon. `stall_s` is the time in which the peer must read some of what is sent; unlimited where
    requests are sent, as a device that runs one reads none.

    Attributes
    ----------
    peer
        Fingerprint of the peer's certificate; empty without TLS.
    reason
        Why the connection has ended; empty while it is open.
    """

    def __init__(
        self,
        connected: socket.socket,
        peer: str,
        admit: Admit,
        expecting: Callable[[], bool],
        stall_s: float = math.inf,
    ) -> None:
        connected.setblocking(False)
        self.peer, self.reason = peer, ""
        self._socket, self._expecting, self._stall_s = connected, expecting, stall_s
        # What a TLS socket reads and writes with; its own methods pass through several layers of Python.
        self._tls = getattr(connected, "_sslobj", None)
        self._reader = FrameReader(admit)
        self._poll_in, self._poll_out = select.poll(), select.poll()
        self._poll_in.register(connected, select.POLLIN)
        self._poll_out.register(connected, select.POLLOUT)
        # Guards the queue, and the socket: two threads must not use a connection of OpenSSL at a time.
        self._lock = threading.Lock()
        self._queue: deque[tuple[memoryview, float]] = deque()
        self._queued_bytes = 0
        self._writing, self._writer = False, threading.Semaphore(0)
        self._has_writer = False
        self._heard_s = self._sent_s = self._written_s = time.monotonic()
        self._waits_since_s = 0.0
        # Whether the last read took all there was, so that another would find nothing.
        self._drained = False

    def receive(self, wait: bool = True) -> Frame | None:
        """Return the next frame; None if none has arrived and `wait` is False. For one thread.

        Raises ConnectionLostError, and FrameError for a malformed frame, which is also sent to the peer.
        """
        while True:
            try:
                frame = self._reader.next()
            except FrameError as error:
                self._refuse(error)
                raise
            if frame is not None:
                if frame.kind is not Kind.HEARTBEAT:
                    return frame
                continue
            if self._drained:
                if wait:
                    self._waits_since_s = time.monotonic()
                    self._poll_in.poll()
                    self._waits_since_s = 0.0
                elif not self._poll_in.poll(0):
                    return None
            target = self._reader.target()
            count = self._read(target)
            # TLS gives one record at a time, and keeps what does not fit.
            self._drained = count < len(target)
            if count:
                self._heard_s = time.monotonic()
                self._reader.advance(count)

    def _read(self, target: memoryview) -> int:
        """Read what is there; 0 when nothing is. Raises ConnectionLostError."""
        with self._lock:
            if self.reason:
                raise ConnectionLostError(self.reason)
            try:
                count = self._tls.read(len(target), target) if self._tls else self._socket.recv_into(target)
            except _WOULD_BLOCK:
                return 0
            except (OSError, ValueError):
                count = 0
        if not count:
            self.close("connection lost")
            raise ConnectionLostError(self.reason)
        return count

    def send(self, frame: Frame, due_s: float = 0.0) -> None:
        """Send a frame without waiting, not before `due_s` (monotonic clock); in the order of the calls.

        Raises ConnectionLostError; RequestRefusedError where too much waits already to be sent.
        """
        head, body = pack_head(frame), frame.body or b""
        first = max(0, _RECORD_BYTES - len(head))
        begin, rest = (head + body[:first], body[first:]) if len(body) > first else (head + body, b"")
        with self._lock:
            if self.reason:
                raise ConnectionLostError(self.reason)
            if self._queued_bytes > _MAX_QUEUED_BYTES:
                raise RequestRefusedError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    "too many bytes wait for a link: send fewer requests, or later",
                )
            if not self._queue:
                count = 0 if due_s else self._send_some(begin)
                if self.reason or (count == len(begin) and not rest):
                    return
                self._written_s = time.monotonic()
                begin = begin[count:]
            for buffer in (begin, rest):
                if buffer:
                    self._queue.append((memoryview(buffer), due_s))
                    self._queued_bytes += len(buffer)
            if self._writing:  # by another thread, which continues with this frame
                return
            self._writing = True
        self._write()

    def _write(self, own_thread: bool = False) -> None:
        """Send the queue; other threads than `own_thread` leave to it what they would wait for."""
        while True:
            with self._lock:
                if self.reason or not self._queue:
                    self._writing = False
                    return
                view, due_s = self._queue[0]
                wait_s = max(0.0, due_s - time.monotonic()) if due_s else 0.0
                count = 0 if wait_s else self._send_some(view)
                blocked = not (wait_s or count or self.reason)
                self._queued_bytes -= count
                if count == len(view):
                    self._queue.popleft()
                elif count:
                    self._queue[0] = (view[count:], due_s)
                if (wait_s or blocked) and not own_thread:
                    if not self._has_writer:
                        self._has_writer = True
                        threading.Thread(target=self._write_on, name="data-writer", daemon=True).start()
                    self._writer.release()
                    return
            if wait_s:
                self._writer.acquire(timeout=wait_s)
            elif blocked:
                self._poll_out.poll(1000)

    def _send_some(self, content: bytes | memoryview) -> int:
        """Send the beginning of bytes, the lock being held; return how many the socket took."""
        try:
            count: int = self._tls.write(content) if self._tls else self._socket.send(content)
        except _WOULD_BLOCK:
            return 0
        except (OSError, ValueError):
            self._end("connection lost")
            return 0
        self._sent_s = self._written_s = time.monotonic()
        return count

    def _write_on(self) -> None:
        """Send what other threads have left, until the connection ends."""
        while not self.reason:
            self._writer.acquire()
            self._write(own_thread=True)

    def tick(self, now_s: float) -> None:
        """Send a heartbeat if nothing was sent lately; end the connection of a silent or stalled peer."""
        waits_since_s = self._waits_since_s
        silence_s = SILENCE_S if self._expecting() else IDLE_SILENCE_S
        if waits_since_s and now_s - max(waits_since_s, self._heard_s) > silence_s:
            self.close(f"no sign of life for {silence_s:g} s")
            return
        with self._lock:
            due_s = self._queue[0][1] if self._queue else math.inf
            if due_s <= now_s:  # a frame is on its way, which is a sign of life too
                if now_s - self._written_s > self._stall_s:
                    self._end(f"the peer has read nothing for {self._stall_s:g} s")
                return
            if self.reason or now_s - self._sent_s < HEARTBEAT_S:
                return
            # Before frames that are not due yet.
            heartbeat = pack_head(Frame(Kind.HEARTBEAT))
            self._queue.appendleft((memoryview(heartbeat), 0.0))
            self._queued_bytes += len(heartbeat)
            if self._writing:
                self._writer.release()  # it waits until the next frame is due
                return
            self._writing = True
        self._write()

    def _refuse(self, fault: FrameError) -> None:
        """Send the fault of the peer, as an error of the whole connection, and end it."""
        error = RequestRefusedError(grpc.StatusCode.INVALID_ARGUMENT, str(fault))
        with suppress(ConnectionLostError, RequestRefusedError, OSError):
            self.send(Frame(Kind.ERROR, text=error_text(error)))
            socket.socket.shutdown(self._socket, socket.SHUT_WR)
            # Unread bytes would reset the connection before the peer has read the error.
            ends_s = time.monotonic() + _LINGER_S
            while (left_s := ends_s - time.monotonic()) > 0 and self._poll_in.poll(int(1000 * left_s)):
                if not socket.socket.recv(self._socket, 1 << 16):
                    break
        self.close(str(fault))

    def close(self, reason: str) -> None:
        """End the connection; its reading thread calls `release` then."""
        with self._lock:
            self._end(reason)

    def _end(self, reason: str) -> None:
        if not self.reason:
            self.reason = reason
            self._queue.clear()
            self._writer.release()
            # Of the base class: that of TLS sockets would let a read return encrypted bytes.
            with suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def release(self) -> None:
        """Close the socket, when its reading thread does not use it any more."""
        self.close("closed")
        with self._lock, suppress(OSError):
            self._socket.close()
