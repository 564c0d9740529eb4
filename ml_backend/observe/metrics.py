"""Prometheus metrics of the server: requests, latencies, predictions by version, faults.

The server is one process with many threads, so a single in-memory registry suffices; a second process would need
Prometheus' multi-process mode. Metric names and labels are documented in docs/operations.md.
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
"""Histogram buckets, including Label Studio's timeouts: webhook and health 1 s, setup 3 s, predict 100 s."""


class Metrics:
    """The metrics of one app. Thread-safe.

    Args:
        collectors: provide further metrics at each scrape, e.g. the queue length.
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
            "Time from a request's arrival to its answer.",
            ("route",),
            buckets=_QUICK_S,
            registry=self.registry,
        )
        self._busy = Gauge("rankloop_http_requests_in_progress", "Requests being answered.", registry=self.registry)
        self._predictions = Counter(
            "rankloop_predictions",
            "Tasks of /predict: answered, empty (nothing to predict), pending (left to the background).",
            ("version", "outcome"),
            registry=self.registry,
        )
        self._events = Counter("rankloop_webhooks", "Webhooks by outcome.", ("status",), registry=self.registry)
        self._faults = Counter("rankloop_faults", "Requests that failed, by kind.", ("kind",), registry=self.registry)
        self._last_fault = Gauge(
            "rankloop_last_fault_timestamp_seconds", "When an error of that kind last occurred.", ("kind",),
            registry=self.registry,
        )  # fmt: skip
        self._recent: deque[dict[str, Any]] = deque(maxlen=FAULTS_KEPT)
        self._lock = threading.Lock()

    def began(self) -> None:
        """Record that a request arrived."""
        self._busy.inc()

    def ended(self) -> None:
        """Record that a request is over, whatever its outcome."""
        self._busy.dec()

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Record an answered request.

        Args:
            method: its HTTP method.
            route: the app's route, never the path as sent: clients can send endlessly many paths.
            status: the HTTP status.
            seconds: how long it took.
        """
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def predicted(self, predictions: Iterable[Mapping[str, Any]]) -> None:
        """Count predictions by version and outcome."""
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
        """Count a webhook by outcome: `queued`, `running`, `refused` or `ignored`."""
        self._events.labels(status).inc()

    def failed(self, kind: str, route: str, request_id: str, message: str) -> None:
        """Record a request that failed through no fault of the client.

        Args:
            kind: the error's class.
            route: the app's route.
            request_id: identifies the request in the log.
            message: the error message that the client got.
        """
        now = time.time()
        self._faults.labels(kind).inc()
        self._last_fault.labels(kind).set(now)
        with self._lock:
            fault = {"at": round(now, 3), "kind": kind, "route": route, "request_id": request_id, "message": message}
            self._recent.append(fault)

    def faults(self) -> list[dict[str, Any]]:
        """The most recent faults, latest first, with the message sent for each."""
        with self._lock:
            return list(reversed(self._recent))

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
