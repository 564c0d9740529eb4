"""An ML backend that Label Studio can connect to: answers the minimum, and records what it receives."""

from __future__ import annotations

import json
import queue
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Any, Self


class RecordingBackend:
    """Serves health, setup, predict and webhook while the context is open.

    `webhooks` holds (headers, body) of every webhook, in order; `predicted` the ids of tasks it was asked to predict.
    """

    def __init__(self, version: str = "rankloop-v1") -> None:
        self.webhooks: queue.Queue[tuple[dict[str, str], dict[str, Any]]] = queue.Queue()
        self.predicted: list[int] = []
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send({"status": "UP"})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
                if self.path == "/webhook":
                    recorder.webhooks.put((dict(self.headers), body))
                    self._send({"job": "none"})
                elif self.path == "/predict":
                    recorder.predicted += [task["id"] for task in body["tasks"]]
                    self._send({"results": [{"result": [], "model_version": version} for _ in body["tasks"]]})
                else:
                    self._send({"model_version": version})

            def _send(self, answer: dict[str, Any]) -> None:
                content = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Keep the tests' output clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.url = f"http://localhost:{self._server.server_port}"

    def webhook(self, action: str, within_s: float = 20) -> tuple[dict[str, str], dict[str, Any]]:
        """The next webhook with this action; others before it are skipped."""
        while True:
            headers, body = self.webhooks.get(timeout=within_s)
            if body.get("action") == action:
                return headers, body

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
