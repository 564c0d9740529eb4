"""Turns Label Studio's refusals into errors that a person can act on and that never show a key."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping

from ml_backend.errors import LabelStudioError

KEY_REMEDY = (
    "Copy a personal access token from Label Studio (Account & Settings, Personal Access Token) into "
    "LABEL_STUDIO_API_KEY; a legacy token works too if the organization has enabled legacy tokens."
)
LEGACY_REMEDY = (
    "Legacy tokens are disabled in this Label Studio. Copy a personal access token (Account & Settings, Personal "
    "Access Token) into LABEL_STUDIO_API_KEY, or have legacy tokens enabled (Organization, API Tokens Settings)."
)
ADDRESS_REMEDY = "Start Label Studio, or set LABEL_STUDIO_URL to an address at which this machine can reach it."
SSRF_REMEDY = (
    "Label Studio's protection against server-side request forgery refuses loopback and private addresses. "
    "Start Label Studio with ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false in its environment, "
    "or give the backend an address that isn't private (RANKLOOP_BACKEND_URL)."
)
BACKEND_REMEDY = (
    "Start the backend (`rankloop up`) and set RANKLOOP_BACKEND_URL to an address at which Label Studio can reach it."
)
BACKEND_AUTH_REMEDY = "Set the BASIC_AUTH_USER and BASIC_AUTH_PASS that the running backend was started with."

CERTIFICATE_REMEDY = (
    "Set SSL_CERT_FILE to a PEM file with the certificates to trust: the server's own if it is self-signed, or its "
    "issuer's; together with the public ones if this process also reaches public servers."
)
NAME_REMEDY = "Use the name that is in the certificate in LABEL_STUDIO_URL, or renew the certificate if it has expired."
_UNKNOWN_ISSUER = {18, 19, 20, 21}
"""OpenSSL's codes: self-signed, self-signed in the chain, issuer not found, first certificate not verified."""

_SSRF_SIGNS = ("reserved network", "reserved ip", "not allowed to be accessed", "ssrf", "banned")
_TAGS = re.compile(r"<[^>]+>")


def refused(doing: str, status: int | None, body: object, url: str) -> LabelStudioError:
    """The error for a response from Label Studio that isn't 2xx, or isn't JSON.

    Args:
        doing: what was attempted, for instance `import tasks`.
        status: the HTTP status, None if there was none.
        body: the response's body, parsed if it was JSON.
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
    """The error for no response at all."""
    if timed_out:
        return LabelStudioError(
            f"Label Studio at {url} took too long to {doing}", remedy="Check whether it is overloaded, and try again."
        )
    return LabelStudioError(f"Label Studio at {url} can't be reached to {doing}", got=reason, remedy=ADDRESS_REMEDY)


def untrusted(doing: str, error: ssl.SSLCertVerificationError, url: str) -> LabelStudioError:
    """The error for a certificate that this machine doesn't trust, or that is for another name or expired."""
    return LabelStudioError(
        f"the certificate of Label Studio at {url} isn't trusted, so it wasn't asked to {doing}",
        got=error.verify_message or str(error),
        remedy=CERTIFICATE_REMEDY if error.verify_code in _UNKNOWN_ISSUER else NAME_REMEDY,
    )


def detail_of(body: object) -> str:
    """What Label Studio says is wrong: its validation errors if there are any, else its detail."""
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
        return "The key's owner may not do this; use the key of someone who may change the project."
    if status == 404:
        return "Check the id: the project or task was deleted, or belongs to another organization."
    if "can't resolve hostname" in lowered:
        return "Label Studio can't find that host name. " + BACKEND_REMEDY
    if "health check failed" in lowered:
        return BACKEND_REMEDY
    if "authentication parameters" in lowered:
        return BACKEND_AUTH_REMEDY
    if status >= 500:
        return "Label Studio failed; its log says why."
    return None
