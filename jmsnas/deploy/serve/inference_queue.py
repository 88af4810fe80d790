"""Bounded queue of requests before a deployment, which plans again when a device is lost."""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from jmsnas.arrays import Float32Array
from jmsnas.deploy.leader.agent_client import DeviceLostError
from jmsnas.deploy.leader.deployment import Deployment, unreachable_device
from jmsnas.deploy.leader.leader import ImageEncoding, Response
from jmsnas.deploy.leader.predicted_vs_measured import quantise_images
from jmsnas.deploy.transport.channel import MAX_QUEUED
from jmsnas.errors import DeployError

# Tries of one request, and the time between them.
_TRIES, _RETRY_S = 8, 0.05
# The health of the devices is asked for at most once in this time, whoever asks.
_HEALTH_S = 1.0

Observe = Callable[[Response], None]


class QueueFullError(DeployError):
    """A request that is refused since as many wait as may."""


class InferenceQueue:
    """Sends images by the current plan of a deployment, eight at a time; `max_waiting` further ones wait.

    With `replan`, the deployment plans again without a lost device, and the requests that failed are sent
    again until their deadline. `encoding` is that of raw images, used where it changes no number of an image.
    `observe` is called with each response, by the thread that received it. Call `close` at the end.
    """

    def __init__(
        self,
        deployment: Deployment,
        encoding: ImageEncoding,
        max_waiting: int,
        replan: bool,
        observe: Observe = lambda response: None,
    ) -> None:
        self._deployment, self._encoding = deployment, encoding
        self._max_places, self._replan, self._observe = MAX_QUEUED + max_waiting, replan, observe
        self._taken = 0
        self._threads = ThreadPoolExecutor(MAX_QUEUED, "inference")
        # Held while the deployment changes: one thread plans again, the others wait for its plan.
        self._planning = threading.Lock()
        self._asking = threading.Lock()
        self._healthy, self._asked_s = True, -math.inf

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take a place of the queue, for the event loop's thread. Raises QueueFullError."""
        if self._taken >= self._max_places:
            raise QueueFullError(f"{self._taken} requests wait already: send fewer requests, or later")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    async def infer(self, x: Float32Array, deadline_s: float) -> Response:
        """Send an image and wait for its response, from a place of the queue.

        `deadline_s` is of the monotonic clock. An image that still waits when the caller is cancelled is not
        sent. Raises DeviceLostError, DeployError.
        """
        return await asyncio.wrap_future(self._threads.submit(self._infer, x, deadline_s))

    def _infer(self, x: Float32Array, deadline_s: float) -> Response:
        encoding = self._encoding if self._is_exact(x) else ImageEncoding()
        leader, tries = self._deployment.leader, 0
        while True:
            epoch = leader.epoch
            try:
                response = leader.infer(x, max(0.0, deadline_s - time.monotonic()), encoding)
                break
            except DeployError as error:
                tries += 1
                if not self._replan or tries >= _TRIES or time.monotonic() + _RETRY_S > deadline_s:
                    raise
                if isinstance(error, DeviceLostError):
                    self._plan_again(epoch, error, tries, deadline_s)
                time.sleep(_RETRY_S)
        self._observe(response)
        return response

    def _is_exact(self, x: Float32Array) -> bool:
        """Return whether the encoding of raw images changes no number of an image."""
        scale = self._encoding.scale
        return bool(np.abs(quantise_images(x, self._encoding) - x).max() <= 1e-5 * scale)

    def _plan_again(self, epoch: int, error: DeviceLostError, tries: int, deadline_s: float) -> None:
        """Plan without the lost device, unless another thread has since the request of plan `epoch`."""
        if not self._planning.acquire(timeout=max(0.0, deadline_s - time.monotonic())):
            raise error
        try:
            if epoch == self._deployment.leader.epoch:
                self._deployment.replan(unreachable_device(error, tries))
        except DeviceLostError:
            raise
        except DeployError as reason:  # no plan is possible without it
            raise DeviceLostError(error.device, str(reason)) from reason
        finally:
            self._planning.release()

    def ready(self) -> bool:
        """Return whether a plan is in service and all its devices pass a health check, within 3 s.

        Asked again within a second, or meanwhile, the last answer is given.
        """
        if self._planning.locked():
            return False
        if self._asking.acquire(blocking=False):
            try:
                if time.monotonic() - self._asked_s > _HEALTH_S:
                    self._healthy = self._deployment.planned is not None and self._all_healthy()
                    self._asked_s = time.monotonic()
            finally:
                self._asking.release()
        return self._healthy

    def _all_healthy(self) -> bool:
        try:
            return not self._deployment.leader.lost()
        except (ValueError, RuntimeError):  # a device was disconnected meanwhile, for another plan
            return False

    def close(self) -> None:
        """Wait for the requests in flight."""
        self._threads.shutdown()
