"""Metrics of a served model in the text format of Prometheus."""

import math
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from jmsnas.deploy.leader.deployment import Deployment
from jmsnas.deploy.leader.leader import Response
from jmsnas.deploy.leader.measured_terms import end_s, hop_timings, term_seconds
from jmsnas.errors import DeployError

# Seconds: terms of small models take tens of microseconds, a request at most ten seconds.
_BUCKETS_S = tuple(mantissa * 10.0**power for power in range(-5, 1) for mantissa in (1, 2, 5)) + (10.0,)


class ServeMetrics:
    """Metrics of a served model: requests by status code, T and its terms, and the plan in service.

    T and its terms are as equations (1) and (2) count them, from the times in each response. Clocks of
    different hosts drift: a response whose times disagree with the offsets measured for the plan enters no
    term, and is counted as `jmsnas_clock_errors_total`.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "jmsnas_requests", "Inference requests, by HTTP status code.", ["code"], registry=self._registry
        )
        self._request_s = self._histogram(
            "jmsnas_request_seconds", "From a request to its answer, over HTTP."
        )
        self._latency_s = self._histogram("jmsnas_latency_seconds", "T of equation (1) or (2), measured.")
        self._term_s = self._histogram(
            "jmsnas_term_seconds",
            "Terms of T: compute on a device, send over a link, wait for a busy processor.",
            ("kind", "where"),
        )
        self._clock_errors = Counter(
            "jmsnas_clock_errors", "Responses with times that disagree.", registry=self._registry
        )
        self._gauge("jmsnas_plan_epoch", "Number of the plan in service.", lambda: deployment.leader.epoch)
        self._gauge("jmsnas_predicted_latency_seconds", "T that the plan predicts.", self._predicted_s)
        self._gauge("jmsnas_lost_devices", "Devices lost while serving.", lambda: len(deployment.lost))

    def _histogram(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Histogram:
        return Histogram(name, text, labels, buckets=_BUCKETS_S, registry=self._registry)

    def _gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        Gauge(name, text, registry=self._registry).set_function(read)

    def _predicted_s(self) -> float:
        planned = self._deployment.planned
        return planned.latency_s if planned else math.nan

    def observe(self, response: Response) -> None:
        """Count T and its terms of a response."""
        try:
            timings = hop_timings(response, self._deployment.links)
        except DeployError:
            self._clock_errors.inc()
            return
        self._latency_s.observe(end_s(timings))
        for (kind, where), seconds in term_seconds(timings).items():
            self._term_s.labels(kind, where).observe(seconds)

    def count(self, code: int, seconds: float) -> None:
        """Count an answered request: its HTTP status code, and the seconds that it took."""
        self._requests.labels(str(code)).inc()
        self._request_s.observe(seconds)

    def text(self) -> bytes:
        """Return all metrics as text."""
        return generate_latest(self._registry)
