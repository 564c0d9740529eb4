"""Forms that only their own reader can send, and that do a thing once however often they are sent."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import urlsplit

SESSION_COOKIE = "rankloop_session"
DONE_KEPT = 1000
"""How many forms that were sent are remembered."""
_SESSION = re.compile(r"[A-Za-z0-9_-]{43}")
_ONCE = re.compile(r"[A-Za-z0-9_-]{22}")

Outcome = TypeVar("Outcome")


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends a form: the secret in their cookie, and who they logged in as."""

    session: str
    login: str


@dataclass(frozen=True, slots=True)
class Sealed:
    """A form's hidden fields: `once` is its own number, `token` shows that this page made it for this reader."""

    once: str
    token: str


def session_from(cookie: str | None) -> str:
    """The secret in a cookie; a fresh one if there is none that this page made."""
    return cookie if cookie and _SESSION.fullmatch(cookie) else secrets.token_urlsafe(32)


def seal(sender: Sender, action: str, expected: str) -> Sealed:
    """Make the hidden fields of a form.

    Args:
        sender: who it is for.
        action: what it does, and to what.
        expected: what its reader was told, for instance which champion is replaced.
    """
    once = secrets.token_urlsafe(16)
    return Sealed(once, _token(sender, action, expected, once))


def is_sealed(sender: Sender, action: str, expected: str, once: str, token: str) -> bool:
    """Whether this page made a form for this reader, to do this."""
    if not _SESSION.fullmatch(sender.session) or not _ONCE.fullmatch(once):
        return False
    return hmac.compare_digest(_token(sender, action, expected, once).encode(), token.encode("utf-8", "replace"))


def is_foreign(origin: str | None, fetch_site: str | None, hosts: tuple[str, ...]) -> bool:
    """Whether a browser says that another site sent a form.

    Args:
        origin: the request's Origin; old clients send none.
        fetch_site: its Sec-Fetch-Site, which tells the truth behind proxies too, but is sent only over TLS or to this
            machine.
        hosts: what this server may be called, with ports.
    """
    if fetch_site is not None:
        return fetch_site != "same-origin"
    return origin is not None and urlsplit(origin).netloc not in hosts


class Once(Generic[Outcome]):
    """Does what a form asks for once; sent again, it tells what came of it. Thread-safe."""

    def __init__(self) -> None:
        self._done: OrderedDict[str, tuple[Outcome, float]] = OrderedDict()
        self._running: set[str] = set()
        self._changed = threading.Condition()

    def __call__(self, once: str, do: Callable[[], Outcome]) -> tuple[Outcome, float | None]:
        """Do it, unless that was done.

        Returns:
            What came of it, and when it was done if that was before, in seconds since 1970.
        """
        with self._changed:
            self._changed.wait_for(lambda: once not in self._running)
            if once in self._done:
                return self._done[once]
            self._running.add(once)
        try:
            outcome = do()  # if it fails, the form may be sent again
            with self._changed:
                self._done[once] = outcome, time.time()
                while len(self._done) > DONE_KEPT:
                    self._done.popitem(last=False)
            return outcome, None
        finally:
            with self._changed:
                self._running.discard(once)
                self._changed.notify_all()


def _token(sender: Sender, action: str, expected: str, once: str) -> str:
    said = "\0".join((sender.login, action, expected, once)).encode("utf-8", "surrogatepass")
    return hmac.new(sender.session.encode(), said, hashlib.sha256).hexdigest()
