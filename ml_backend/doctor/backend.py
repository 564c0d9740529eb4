"""Checks of the running backend: its speed, our credentials, whether it can answer, and its recent faults."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx

from ml_backend.doctor.findings import Finding, look, ok, wrong
from ml_backend.label_studio import BACKEND_AUTH_REMEDY, SECRET_HEADER, BackendAddress
from ml_backend.settings import Settings

TIMEOUT_S = 3.0
"""Label Studio's timeout for /setup."""
RECENT_S = 3600.0
_OTHER_WEBHOOKS = (
    "Set the RANKLOOP_WEBHOOK_SECRET that the running backend was started with, or restart it with this one, "
    "and then run: rankloop init-project"
)


def examine_backend(settings: Settings) -> Iterator[Finding]:
    """Send the local backend the requests that Label Studio sends, and ask about recent faults."""
    guard = BackendAddress.from_settings(settings).guard
    host = "localhost" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104  # nothing is bound
    url = f"http://{f'[{host}]' if ':' in host.strip('[]') and not host.startswith('[') else host}:{settings.port}"
    with httpx.Client(base_url=url, timeout=TIMEOUT_S, auth=guard.basic) as backend:
        try:
            health = backend.get("/health")
            setup = backend.post("/setup", json={"project": "0.0", "schema": ""})
            yield from _answers(settings, url, health, setup)
            if setup.status_code != httpx.codes.UNAUTHORIZED:
                yield from _webhooks(settings, url)
                yield from _state(backend.get("/status"))
        except httpx.TimeoutException:
            yield wrong(
                "backend", f"{url} answers too slowly for Label Studio", "Look at its log; is the machine busy?"
            )
        except httpx.HTTPError as error:
            yield wrong("backend", f"{url} doesn't answer ({error})", "Start it: rankloop up")


def _answers(settings: Settings, url: str, health: httpx.Response, setup: httpx.Response) -> Iterator[Finding]:
    if setup.status_code == httpx.codes.UNAUTHORIZED:
        yield wrong("backend", f"{url} refuses our credentials", BACKEND_AUTH_REMEDY)
    elif health.status_code != httpx.codes.OK:
        yield wrong("backend", f"{url}/health answers {health.status_code}", "Look at the backend's log.")
    else:
        yield ok("backend", f"{url} answers; Label Studio is told {settings.public_url()}")


def _webhooks(settings: Settings, url: str) -> Iterator[Finding]:
    """Check that a webhook with the secret is accepted; Label Studio has no such action, so it has no effect."""
    guard = BackendAddress.from_settings(settings).guard
    if guard.secret:
        headers = {SECRET_HEADER: guard.secret}
        answer = httpx.post(f"{url}/webhook", json={"action": "DOCTOR"}, headers=headers, timeout=TIMEOUT_S)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            yield wrong("backend", "the running backend's webhook secret differs from these settings", _OTHER_WEBHOOKS)
    elif guard.basic:
        yield ok("backend", "webhooks use the Basic credentials, since no RANKLOOP_WEBHOOK_SECRET is set")


def _state(status: httpx.Response) -> Iterator[Finding]:
    """Report what the backend itself says is wrong, and the last request that failed within the past hour."""
    if status.status_code != httpx.codes.OK:
        remedy = "Look at the backend's log."
        yield look("backend", f"/status answers {status.status_code}: {_error(status)}", remedy)
        return
    state: dict[str, Any] = status.json()
    if state.get("fault"):
        yield wrong("backend", f"the champion can't be loaded: {state['fault']}", "Or go back: rankloop rollback")
    recent = [fault for fault in state.get("faults", []) if time.time() - fault["at"] < RECENT_S]
    if recent:
        last = recent[0]
        detail = f"failed requests within the past hour: {len(recent)}; the last to {last['route']}: {last['message']}"
        yield look("backend", detail, f"The backend's log has more under request id {last['request_id']}.")


def _error(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase
