"""Authentication of requests to the backend: Basic auth, and for webhooks a shared secret as an alternative."""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass
from typing import Self

from ml_backend.settings import Settings
from training.errors import ConfigError

SECRET_HEADER = "X-Rankloop-Secret"  # noqa: S105  # a header's name, not a secret


@dataclass(frozen=True, slots=True)
class Guard:
    """The credentials the backend requires.

    Label Studio sends Basic auth with its own requests; its webhooks carry only the headers set on them.
    """

    basic: tuple[str, str] | None = None
    secret: str | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Read the credentials.

        Raises:
            ConfigError: only a user or only a password is set, which would silently leave the backend open.
        """
        user = settings.basic_auth_user or ""
        password = settings.basic_auth_pass.get_secret_value() if settings.basic_auth_pass else ""
        if bool(user) != bool(password):
            raise ConfigError(
                "Basic auth is only half configured",
                expected="BASIC_AUTH_USER and BASIC_AUTH_PASS both set, or neither",
                remedy=f"Set {'BASIC_AUTH_PASS' if user else 'BASIC_AUTH_USER'} as well.",
            )
        secret = settings.webhook_secret.get_secret_value() if settings.webhook_secret else None
        return cls((user, password) if user else None, secret or None)

    def admits(self, username: str | None, password: str | None) -> bool:
        """Whether a request with these Basic credentials may pass. Takes the same time whatever is wrong with them."""
        if self.basic is None:
            return True
        user_fits = _same(username, self.basic[0])
        password_fits = _same(password, self.basic[1])
        return user_fits and password_fits

    def admits_webhook(self, username: str | None, password: str | None, secret: str | None) -> bool:
        """Whether a webhook with these Basic credentials or this `X-Rankloop-Secret` may pass; either is enough."""
        if self.basic is None and self.secret is None:
            return True
        by_secret = self.secret is not None and _same(secret, self.secret)
        by_basic = self.basic is not None and self.admits(username, password)
        return by_secret or by_basic


def refuse_open_bind(settings: Settings) -> None:
    """Refuse to listen beyond this machine without credentials.

    Raises:
        ConfigError: the host isn't a loopback address, Basic auth is not set, and `allow_open` is off.
    """
    if Guard.from_settings(settings).basic or settings.allow_open or _is_loopback(settings.host):
        return
    raise ConfigError(
        "the backend would be open to anyone who can reach this machine",
        got=f"RANKLOOP_HOST={settings.host} without Basic auth",
        expected="a loopback address, or credentials",
        remedy="Set BASIC_AUTH_USER and BASIC_AUTH_PASS, or RANKLOOP_ALLOW_OPEN=true if something else protects it.",
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False  # a name: it may resolve to anything


def _same(given: str | None, wanted: str) -> bool:
    return hmac.compare_digest((given or "").encode("utf-8", "surrogatepass"), wanted.encode())
