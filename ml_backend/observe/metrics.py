"""What the server has done, counted for Prometheus: requests, latencies, predictions by version, faults.

The server is one process with many threads, so one registry in its memory holds everything; a second process would
need Prometheus' multi-process mode. Metric names and labels are documented in docs/operations.md.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.registry import Collector

from ml_backend.serving import PENDING_SUFFIX

CONTENT_TYPE = CONTENT_TYPE_LATEST
FAULTS_KEPT = 20
_QUICK_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 3.0, 10.0, 30.0, 60.0, 100.0)
"""Bounds that matter to Label Studio are among them: webhook and health 1 s, setup 3 s, predict 100 s."""


class Metrics:
    """Counts for one app. May be used from any thread.

    Args:
        collectors: tell more at each scrape, for instance how long the queue is.
    """

    def __init__(self, *collectors: Collector) -> None:
        self.registry = CollectorRegistry()
        for collector in collectors:
            self.registry.register(collector)
        self._requests = Counter(
            "rankloop_http_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "rankloop_http_request_seconds",
            "From the request's arrival to its answer.",
            ("route",),
            buckets=_QUICK_S,
            registry=self.registry,
        )
        self._busy = Gauge("rankloop_http_requests_in_progress", "Requests being answered.", registry=self.registry)
        self._predictions = Counter(
            "rankloop_predictions",
            "Tasks of /predict: answered, empty (nothing to say), pending (left to the background).",
            ("version", "outcome"),
            registry=self.registry,
        )
        self._events = Counter(
            "rankloop_webhooks", "Webhooks by what they led to.", ("status",), registry=self.registry
        )
        self._faults = Counter("rankloop_faults", "Requests that failed, by kind.", ("kind",), registry=self.registry)
        self._last_fault = Gauge(
            "rankloop_last_fault_timestamp_seconds", "When a kind of fault was last seen.", ("kind",),
            registry=self.registry,
        )  # fmt: skip
        self._recent: deque[dict[str, Any]] = deque(maxlen=FAULTS_KEPT)
        self._lock = threading.Lock()

    def began(self) -> None:
        """A request arrived."""
        self._busy.inc()

    def ended(self) -> None:
        """A request is over, whatever became of it."""
        self._busy.dec()

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered.

        Args:
            method: its HTTP method.
            route: the address as the app knows it, never as it was sent: anyone can send endless new ones.
            status: the HTTP status.
            seconds: how long it took.
        """
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def predicted(self, predictions: Iterable[Mapping[str, Any]]) -> None:
        """Count predictions by version and by whether they say anything."""
        counts: dict[tuple[str, str], int] = {}
        for prediction in predictions:
            version = str(prediction["model_version"])
            pending = version.endswith(PENDING_SUFFIX)
            outcome = "answered" if prediction["result"] else "pending" if pending else "empty"
            key = (version.removesuffix(PENDING_SUFFIX), outcome)
            counts[key] = counts.get(key, 0) + 1
        for key, number in counts.items():
            self._predictions.labels(*key).inc(number)

    def passed_on(self, status: str) -> None:
        """A webhook led to `queued`, `running`, `refused` or `ignored`."""
        self._events.labels(status).inc()

    def failed(self, kind: str, route: str, request_id: str, message: str) -> None:
        """A request failed through no fault of whoever sent it.

        Args:
            kind: the error's class.
            route: the address, as the app knows it.
            request_id: finds the log's lines about it.
            message: what was said of it to the client.
        """
        now = time.time()
        self._faults.labels(kind).inc()
        self._last_fault.labels(kind).set(now)
        with self._lock:
            fault = {"at": round(now, 3), "kind": kind, "route": route, "request_id": request_id, "message": message}
            self._recent.append(fault)

    def faults(self) -> list[dict[str, Any]]:
        """The last faults, the latest first, with what was said of each."""
        with self._lock:
            return list(reversed(self._recent))

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)
