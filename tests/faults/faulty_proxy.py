"""A proxy between the backend and a real Label Studio that injects errors in its place, and sets its clock."""

from __future__ import annotations

import re
import socket
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

Mode = Literal["well", "500", "429", "down"]
Cut = Literal["cut", "504"]
"""An answer ends in the middle; or a gateway gives up waiting for it."""
_HOP_BY_HOP = {"accept-encoding", "connection", "keep-alive", "transfer-encoding", "content-length", "host"}
_PARTS: dict[str, int] = {"well": 1, "cut": 2}
"""The requests that reach Label Studio, and into how many parts its answer is cut, of which the first comes back."""
_MOMENT = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
TIMEOUT_S = 600.0


class FaultyProxy:
    """Forwards requests, unless told to fail: with a status, or by closing the connection without an answer.

    `injected` counts the requests that it failed, `cuts` the answers that it cut off by the pattern of their address,
    `moved` the answers whose times it moved. With `ahead_s`, Label Studio's clock is that much ahead of ours (behind if
    negative): every time in its answers is later by that, and every time that it is asked for earlier.
    """

    def __init__(self, target: str) -> None:
        address = urlsplit(target)
        self._mode: Mode = "well"
        self._changed = threading.Condition()
        self._to_cut: dict[re.Pattern[str], Cut] = {}
        self.injected = 0
        self.cuts: Counter[str] = Counter()
        self.ahead_s = 0
        self.moved = 0
        proxy, host, port = self, address.hostname or "localhost", address.port or 80

        class Handler(BaseHTTPRequestHandler):
            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.close_connection = True
                how = proxy._met(self.path)
                if how == "down":
                    self.connection.shutdown(socket.SHUT_RDWR)
                elif how in _PARTS:
                    self._pass_on(body, _PARTS[how])
                else:
                    self._send(int(how), [("Content-Type", "application/json")], b'{"detail": "injected fault"}')

            def _pass_on(self, body: bytes, parts: int) -> None:
                upstream = HTTPConnection(host, port, timeout=TIMEOUT_S)
                try:
                    headers = _to_pass_on(self.headers.items())
                    path, body = proxy._asked_for(self.path, body)
                    upstream.request(self.command, path, body, {**dict(headers), "Host": address.netloc})
                    answer = upstream.getresponse()
                    given, content = proxy._answered(answer.getheaders(), answer.read())
                    self._send(answer.status, given, content, len(content) // parts)
                finally:
                    upstream.close()

            def _send(
                self, status: int, headers: list[tuple[str, str]], content: bytes, only: int | None = None
            ) -> None:
                self.send_response_only(status)
                for name, value in _to_pass_on(headers):
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(content[:only])

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

    def cut_off(self, how: Mapping[str, Cut]) -> None:
        """From now on, cut off answers at addresses that these patterns occur in; all others come through."""
        with self._changed:
            self._to_cut = {re.compile(pattern): cut for pattern, cut in how.items()}

    def _asked_for(self, path: str, body: bytes) -> tuple[str, bytes]:
        if not self.ahead_s:
            return path, body
        address, mark, query = path.partition("?")
        values = [
            (name, _moved(value.encode(), -self.ahead_s).decode())
            for name, value in parse_qsl(query, keep_blank_values=True)
        ]
        return address + mark + urlencode(values), _moved(body, -self.ahead_s)

    def _answered(self, headers: list[tuple[str, str]], content: bytes) -> tuple[list[tuple[str, str]], bytes]:
        if not self.ahead_s:
            return headers, content
        later = [
            (name, format_datetime(parsedate_to_datetime(value) + timedelta(seconds=self.ahead_s), usegmt=True))
            if name.lower() == "date"
            else (name, value)
            for name, value in headers
        ]
        moved = _moved(content, self.ahead_s)
        with self._changed:
            self.moved += moved != content
        return later, moved

    def _met(self, path: str) -> Mode | Cut:
        with self._changed:
            if self._mode != "well":
                self.injected += 1
                self._changed.notify_all()
                return self._mode
            for pattern, cut in self._to_cut.items():
                if pattern.search(path):
                    self.cuts[pattern.pattern] += 1
                    return cut
            return "well"


def _to_pass_on(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name.lower() not in _HOP_BY_HOP]


def _moved(content: bytes, seconds: int) -> bytes:
    """The same with every time in it moved."""

    def move(found: re.Match[bytes]) -> bytes:
        moment = datetime.fromisoformat(found.group().decode()) + timedelta(seconds=seconds)
        return moment.isoformat(timespec="seconds").encode()

    return _MOMENT.sub(move, content)
