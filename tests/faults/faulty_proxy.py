"""A proxy between the backend and a real Label Studio that injects errors in its place."""

from __future__ import annotations

import socket
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, Self
from urllib.parse import urlsplit

Mode = Literal["well", "500", "429", "down"]
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}
TIMEOUT_S = 600.0


class FaultyProxy:
    """Forwards requests, unless told to fail: with a status, or by closing the connection without an answer.

    `injected` counts the requests that it failed.
    """

    def __init__(self, target: str) -> None:
        address = urlsplit(target)
        self._mode: Mode = "well"
        self._changed = threading.Condition()
        self.injected = 0
        proxy, host, port = self, address.hostname or "localhost", address.port or 80

        class Handler(BaseHTTPRequestHandler):
            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.close_connection = True
                mode = proxy._met()
                if mode == "well":
                    self._pass_on(body)
                elif mode == "down":
                    self.connection.shutdown(socket.SHUT_RDWR)
                else:
                    self._send(int(mode), [("Content-Type", "application/json")], b'{"detail": "injected fault"}')

            def _pass_on(self, body: bytes) -> None:
                upstream = HTTPConnection(host, port, timeout=TIMEOUT_S)
                try:
                    headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
                    upstream.request(self.command, self.path, body, {**headers, "Host": address.netloc})
                    answer = upstream.getresponse()
                    self._send(answer.status, answer.getheaders(), answer.read())
                finally:
                    upstream.close()

            def _send(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
                self.send_response_only(status)
                for name, value in headers:
                    if name.lower() not in _HOP_BY_HOP:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(content)

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Ignore closed connections, which are the purpose here."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fail(self, mode: Mode, requests: int, timeout_s: float) -> int:
        """Fail until this many requests have failed or the time is up, then recover. Returns how many failed."""
        with self._changed:
            before, self._mode = self.injected, mode
            self._changed.wait_for(lambda: self.injected - before >= requests, timeout_s)
            self._mode = "well"
            return self.injected - before

    def _met(self) -> Mode:
        with self._changed:
            if self._mode != "well":
                self.injected += 1
                self._changed.notify_all()
            return self._mode
