"""Failed logins: who waits, for how long, and who never does."""

from __future__ import annotations

import base64
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from edge_fakes import FakeJobs, FakeRegistry
from flask.testing import FlaskClient

from ml_backend.http.app import create_app
from ml_backend.http.edge import SECURITY_HEADERS
from ml_backend.http.logins import LONGEST_PAUSE_S, PAUSED_AT_ONCE, REMEMBERED, FailedLogins
from ml_backend.serving.proposer import Proposer
from ml_backend.settings import load_settings


@dataclass
class Clock:
    """A clock that moves by hand, and the pauses that were asked for."""

    now: float = 1000.0
    pauses: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        """The time."""
        return self.now


def _logins() -> tuple[FailedLogins, Clock]:
    clock = Clock()
    return FailedLogins(clock, clock.pauses.append), clock


def test_each_failure_of_an_address_waits_twice_as_long_up_to_a_limit() -> None:
    """50, 100, 200 ms and so on, up to a second; after a quiet minute it begins anew. Others don't wait for it."""
    failed, clock = _logins()
    for _ in range(7):
        failed.failed("10.0.0.1")
    assert clock.pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    failed.failed("10.0.0.2")
    assert clock.pauses[-1] == pytest.approx(0.05)
    clock.now += 61
    failed.failed("10.0.0.1")
    assert clock.pauses[-1] == pytest.approx(0.05)


def test_right_credentials_begin_anew() -> None:
    """Someone who mistyped and then got in is no guesser."""
    failed, clock = _logins()
    for _ in range(5):
        failed.failed("10.0.0.1")
    failed.succeeded("10.0.0.1")
    failed.failed("10.0.0.1")
    assert clock.pauses[-1] == pytest.approx(0.05)


def test_many_addresses_together_wait_long_and_fill_no_memory() -> None:
    """Guesses spread over ten thousand addresses are each held for the longest time; only the latest are remembered."""
    failed, clock = _logins()
    failed.succeeded("10.9.9.9")
    for number in range(10_000):
        failed.failed(f"10.{number // 65536}.{number // 256 % 256}.{number % 256}")
    assert clock.pauses[-1] == LONGEST_PAUSE_S
    assert len(failed._addresses) == REMEMBERED
    assert "10.9.9.9" in failed._addresses  # a known address isn't forgotten for strangers


def test_one_machine_has_one_ipv6_network() -> None:
    """Addresses of one /64 count as one; an IPv4 address written as IPv6 is that address."""
    failed, clock = _logins()
    failed.failed("2001:db8::1")
    failed.failed("2001:db8::ffff")
    assert clock.pauses[-1] == pytest.approx(0.1)
    failed.failed("192.0.2.7")
    failed.failed("::ffff:192.0.2.7")
    assert clock.pauses[-1] == pytest.approx(0.1)


def test_only_a_flood_is_turned_away_unchecked_and_never_a_known_address() -> None:
    """While all places are taken, failing addresses are turned away; new ones and those that logged in are checked."""
    gate, inside = threading.Event(), threading.Semaphore(0)

    def pause(_seconds: float) -> None:
        inside.release()
        assert gate.wait(30)

    failed = FailedLogins(pause=pause)
    failed.succeeded("10.0.0.9")
    with ThreadPoolExecutor(PAUSED_AT_ONCE) as pool:
        held = [pool.submit(failed.failed, "10.0.0.1") for _ in range(PAUSED_AT_ONCE)]
        for _ in held:
            assert inside.acquire(timeout=30)
        assert failed.turns_away("10.0.0.1")
        assert not failed.turns_away("10.0.0.2")
        failed.failed("10.0.0.9")  # returns at once: there is no place left to wait in
        assert not failed.turns_away("10.0.0.9")
        gate.set()
    assert not failed.turns_away("10.0.0.1")


def _basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"ann:{password}".encode()).decode()}


@pytest.fixture
def client(settings: Any, proposer: Proposer, jobs: FakeJobs, registry: FakeRegistry) -> FlaskClient:
    """A client of an app with all credentials, two of which are being replaced."""
    secrets = {
        "basic_auth_user": "ann",
        "basic_auth_pass": "new",
        "basic_auth_pass_previous": "old",
        "webhook_secret": "new secret",
        "webhook_secret_previous": "old secret",
    }
    guarded = load_settings(**{**settings.model_dump(), **secrets})
    return create_app(guarded, proposer, jobs, registry).test_client()  # type: ignore[arg-type]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_letters_beyond_ascii_get_in_however_they_are_sent(
    settings: Any, proposer: Proposer, jobs: FakeJobs, registry: FakeRegistry, encoding: str
) -> None:
    """Label Studio sends passwords in Latin-1, browsers in UTF-8; `Ã¤` in Latin-1 is `ä` in UTF-8."""
    for password in ("pässwört", "Ã¤:"):
        chosen = {"basic_auth_user": "ann", "basic_auth_pass": password}
        guarded = load_settings(**{**settings.model_dump(), **chosen})
        client = create_app(guarded, proposer, jobs, registry).test_client()  # type: ignore[arg-type]
        sent = base64.b64encode(f"ann:{password}".encode(encoding)).decode()
        assert client.get("/versions", headers={"Authorization": f"Basic {sent}"}).status_code == 200
        assert client.get("/versions", headers=_basic("passwort")).status_code == 401
    for junk in ("Basic", "Basic !!!", "Basic " + "A" * 5, "Bearer x"):
        assert client.get("/versions", headers={"Authorization": junk}).status_code == 401


def test_old_and_new_credentials_are_accepted_during_a_rotation(client: FlaskClient) -> None:
    """Both passwords and both secrets get in, others don't; a secret opens nothing but /webhook."""
    for password, status in (("new", 200), ("old", 200), ("older", 401)):
        assert client.get("/versions", headers=_basic(password)).status_code == status
    event = {"action": "PROJECT_UPDATED", "project": {"id": 1}}
    for secret, status in (("new secret", 202), ("old secret", 202), ("new secret,old secret", 401)):
        answer = client.post("/webhook", json=event, headers={"X-Rankloop-Secret": secret})
        assert answer.status_code == status
    assert client.get("/versions", headers={"X-Rankloop-Secret": "new secret"}).status_code == 401


def test_who_has_only_a_secret_is_told_how_start_training_gets_in(
    settings: Any, proposer: Proposer, jobs: FakeJobs, registry: FakeRegistry
) -> None:
    """Label Studio's button sends Basic credentials and no header of its own, so the secret alone can't let it in."""
    event = {"action": "START_TRAINING", "project": {"id": 1}}
    for basic, told in (({}, True), ({"basic_auth_user": "ann", "basic_auth_pass": "new"}, False)):
        guarded = load_settings(**{**settings.model_dump(), "webhook_secret": "secret", **basic})
        client = create_app(guarded, proposer, jobs, registry).test_client()  # type: ignore[arg-type]
        answer = client.post("/webhook", json=event)
        assert answer.status_code == 401
        assert ("BASIC_AUTH_USER and BASIC_AUTH_PASS" in answer.json["error"]) == told  # type: ignore[index]


def test_guesses_wait_and_right_credentials_and_missing_ones_do_not(client: FlaskClient) -> None:
    """Four wrong passwords take 50 + 100 + 200 + 400 ms; no password is no guess, and the right one gets in at once."""
    began = time.perf_counter()
    for _ in range(4):
        assert client.get("/versions", headers=_basic("guess")).status_code == 401
    assert time.perf_counter() - began > 0.75
    began = time.perf_counter()
    assert client.get("/versions").status_code == 401
    assert client.get("/versions", headers=_basic("new")).status_code == 200
    assert time.perf_counter() - began < 0.75


def test_every_answer_has_the_headers_that_browsers_heed(client: FlaskClient) -> None:
    """Health, errors and refusals alike; none names the server's software or version."""
    for answer in (
        client.get("/health"),
        client.get("/nowhere"),
        client.get("/versions"),
        client.get("/versions", headers=_basic("new")),
        client.post("/predict", data="{", headers=_basic("new")),
    ):
        assert {name: answer.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS
        assert "Server" not in answer.headers
