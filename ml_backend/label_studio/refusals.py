"""Label Studio's refusals in words a person can act on. Never shows a key."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ml_backend.errors import LabelStudioError

KEY_REMEDY = (
    "Copy a personal access token from Label Studio (Account & Settings, Personal Access Token) into "
    "LABEL_STUDIO_API_KEY; a legacy token works too where the organization has legacy tokens switched on."
)
LEGACY_REMEDY = (
    "Legacy tokens are switched off in this Label Studio. Copy a personal access token (Account & Settings, Personal "
    "Access Token) into LABEL_STUDIO_API_KEY, or have legacy tokens switched on (Organization, API Tokens Settings)."
)
ADDRESS_REMEDY = "Start Label Studio, or set LABEL_STUDIO_URL to its address as seen from here."
SSRF_REMEDY = (
    "Label Studio's protection against server-side request forgery refuses loopback and private addresses. "
    "Start Label Studio with ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false in its environment, "
    "or give the backend an address that isn't private (RANKLOOP_BACKEND_URL)."
)
BACKEND_REMEDY = (
    "Start the backend (`rankloop up`) and set RANKLOOP_BACKEND_URL to its address as seen from Label Studio."
)
BACKEND_AUTH_REMEDY = "Set the BASIC_AUTH_USER and BASIC_AUTH_PASS that the running backend was started with."

_SSRF_SIGNS = ("reserved network", "reserved ip", "not allowed to be accessed", "ssrf", "banned")
_TAGS = re.compile(r"<[^>]+>")


def refused(doing: str, status: int | None, body: object, url: str) -> LabelStudioError:
    """The error for an answer of Label Studio that is none of the 2xx (or no JSON at all).

    Args:
        doing: what was tried, for instance `import tasks`.
        status: the HTTP status, None where there was no answer.
        body: what Label Studio answered, parsed where it was JSON.
        url: Label Studio's address.
    """
    detail = detail_of(body)
    what = f"Label Studio at {url} refused to {doing}"
    if status is None or status < 400:
        return LabelStudioError(
            f"{url} doesn't answer like Label Studio", got=detail, remedy=ADDRESS_REMEDY, status=status
        )
    return LabelStudioError(what, got=f"{status} {detail}", remedy=_remedy(status, detail), status=status)


def unreachable(doing: str, reason: str, url: str, *, timed_out: bool = False) -> LabelStudioError:
    """The error for no answer at all."""
    if timed_out:
        return LabelStudioError(
            f"Label Studio at {url} took too long to {doing}", remedy="Look whether it is overloaded, and try again."
        )
    return LabelStudioError(f"Label Studio at {url} can't be reached to {doing}", got=reason, remedy=ADDRESS_REMEDY)


def detail_of(body: object) -> str:
    """What Label Studio says is wrong: its validation errors where it has some, else its detail."""
    if not isinstance(body, Mapping):
        return _TAGS.sub(" ", str(body)).strip()[:300]
    faults = body.get("validation_errors")
    if isinstance(faults, Mapping) and faults:
        lines = [message for messages in faults.values() for message in _listed(messages)]
        return " ".join(_TAGS.sub("", str(line)) for line in lines)
    return str(body.get("detail") or body.get("error") or dict(body))


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else [value]


def _remedy(status: int, detail: str) -> str | None:
    lowered = detail.lower()
    if status == 401:
        return LEGACY_REMEDY if "legacy token" in lowered else KEY_REMEDY
    if any(sign in lowered for sign in _SSRF_SIGNS):
        return SSRF_REMEDY
    if status == 403:
        return "The key's owner may not do this; use the key of somebody who can change the project."
    if status == 404:
        return "Look at the id: the project or task was deleted, or belongs to another organization."
    if "can't resolve hostname" in lowered:
        return "Label Studio can't find that host name. " + BACKEND_REMEDY
    if "health check failed" in lowered:
        return BACKEND_REMEDY
    if "authentication parameters" in lowered:
        return BACKEND_AUTH_REMEDY
    if status >= 500:
        return "Label Studio failed; its own log says why."
    return None
