"""A few of Label Studio's answers over real HTTP, for faults that a healthy server can't produce on demand."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

Answer = tuple[int, Any]
"""Status and body; a string body is sent as HTML."""
CUT_OFF = object()
"""A body that ends before it is complete."""


@dataclass(slots=True)
class FakeLabelStudio:
    """Answers by method and path, given the request's body, or its query if it is a GET; records requests."""

    url: str = ""
    answers: dict[str, Callable[[dict[str, Any]], Answer]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def on(self, request: str, *answers: Answer) -> None:
        """Answer `request` ("GET /api/version/") with these in turn; the last one repeats."""
        left = list(answers)
        self.answers[request] = lambda _: left.pop(0) if len(left) > 1 else left[0]

    def times(self, request: str) -> int:
        """How often it was requested."""
        return self.asked.count(request)


@contextmanager
def fake_label_studio(certificate: ssl.SSLContext | None = None) -> Iterator[FakeLabelStudio]:
    """Serve until the context exits; over HTTPS if there is a certificate."""
    fake = FakeLabelStudio()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            path, _, query = self.path.partition("?")
            request = f"{self.command} {path}"
            if self.command == "GET":
                body = dict(parse_qsl(query))
            fake.asked.append(request)
            fake.keys.append(self.headers.get("Authorization", ""))
            unknown: Callable[[Any], Answer] = lambda _: (404, {"detail": "Not found."})  # noqa: E731
            status, answer = fake.answers.get(request, unknown)(body)
            if answer is CUT_OFF:
                self.send_response(status)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b'[{"id": 1, ')
                return
            content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if isinstance(answer, str) else "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Keep the tests' output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
    if certificate is not None:
        server.socket = certificate.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
