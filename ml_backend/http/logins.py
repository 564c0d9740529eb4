"""Failed logins are slowed down; right credentials never wait."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
"""How long an answer to wrong credentials is held back: twice as long after each failure. Label Studio waits three
seconds for /setup; its webhooks with an outdated secret must not keep annotators waiting for longer than this."""
PAUSED_AT_ONCE = 16
"""A held answer keeps one of the server's threads, which health needs too."""
FORGET_AFTER_S = 60.0
REMEMBERED = 1024
"""The most addresses remembered, so that a flood from many can't fill the memory."""
MANY_FAILURES = 60
"""Failures from all addresses together, within a minute or so, from which each is held for the longest time."""


@dataclass(slots=True)
class _Address:
    """What an address did lately."""

    failures: int
    at: float
    known: bool


class FailedLogins:
    """Holds answers to wrong credentials back, by address and over all addresses.

    Credentials are checked before anything waits, so right ones pass at once. Only when all places for held answers are
    taken are addresses that are failing just now turned away unchecked; those that logged in since never are.

    Args:
        clock: the time in seconds.
        pause: waits for so many seconds.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, pause: Callable[[float], object] = time.sleep
    ) -> None:
        self._clock = clock
        self._pause = pause
        self._places = threading.BoundedSemaphore(PAUSED_AT_ONCE)
        self._paused = 0
        self._addresses: OrderedDict[str, _Address] = OrderedDict()
        self._all = 0.0
        self._all_at = clock()
        self._lock = threading.Lock()

    def turns_away(self, address: str | None) -> bool:
        """Whether to refuse a request unchecked: its address fails just now, and too many answers are held already."""
        with self._lock:
            if self._paused < PAUSED_AT_ONCE:
                return False
            seen = self._seen(_key(address))
            return seen is not None and seen.failures > 0 and not seen.known

    def succeeded(self, address: str | None) -> None:
        """Note right credentials."""
        key = _key(address)
        with self._lock:
            if key in self._addresses or len(self._addresses) < REMEMBERED:
                self._remember(key, _Address(0, self._clock(), known=True))

    def failed(self, address: str | None) -> None:
        """Note wrong credentials, and hold the answer back, unless too many are held already."""
        key = _key(address)
        with self._lock:
            seen = self._seen(key) or _Address(0, 0.0, known=False)
            failures = seen.failures + 1
            self._remember(key, _Address(failures, self._clock(), seen.known))
            overall = self._count()
        if not self._places.acquire(blocking=False):
            return
        try:
            with self._lock:
                self._paused += 1
            many = overall > MANY_FAILURES
            self._pause(LONGEST_PAUSE_S if many else min(FIRST_PAUSE_S * 2.0 ** min(failures - 1, 20), LONGEST_PAUSE_S))
        finally:
            with self._lock:
                self._paused -= 1
            self._places.release()

    def _seen(self, key: str) -> _Address | None:
        """What is remembered of an address; failures are forgotten after a while, a login isn't."""
        seen = self._addresses.get(key)
        if seen is not None and self._clock() - seen.at > FORGET_AFTER_S:
            return _Address(0, seen.at, seen.known) if seen.known else None
        return seen

    def _remember(self, key: str, what: _Address) -> None:
        self._addresses[key] = what
        self._addresses.move_to_end(key)
        while len(self._addresses) > REMEMBERED:
            stranger = next((name for name, seen in self._addresses.items() if not seen.known), None)
            del self._addresses[stranger if stranger is not None else next(iter(self._addresses))]

    def _count(self) -> float:
        """Count one failure among those of all addresses, which are forgotten at a steady rate."""
        now = self._clock()
        forgotten = (now - self._all_at) * MANY_FAILURES / FORGET_AFTER_S
        self._all, self._all_at = max(0.0, self._all - forgotten) + 1, now
        return self._all


def _key(address: str | None) -> str:
    """An address; of an IPv6 address the network, since one machine has as many addresses in it as it wants."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
