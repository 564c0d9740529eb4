"""Authentication of requests to the backend: Basic auth, and for webhooks a shared secret as an alternative."""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass
from typing import Self

from pydantic import SecretStr

from ml_backend.settings import Settings
from training.errors import ConfigError

SECRET_HEADER = "X-Rankloop-Secret"  # noqa: S105  # a header's name, not a secret


@dataclass(frozen=True, slots=True)
class Guard:
    """The credentials the backend requires.

    Label Studio sends Basic auth with its own requests; its webhooks carry only the headers set on them. While a
    credential is being replaced, the previous one is accepted as well.
    """

    basic: tuple[str, str] | None = None
    secret: str | None = None
    previous_password: str | None = None
    previous_secret: str | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Read the credentials.

        Raises:
            ConfigError: only a user or only a password is set, which would silently leave the backend open; or there
                is a previous credential without a current one.
        """
        user, password = settings.basic_auth_user or "", _plain(settings.basic_auth_pass)
        if bool(user) != bool(password):
            raise ConfigError(
                "Basic auth is only half configured",
                expected="BASIC_AUTH_USER and BASIC_AUTH_PASS both set, or neither",
                remedy=f"Set {'BASIC_AUTH_PASS' if user else 'BASIC_AUTH_USER'} as well.",
            )
        secret = _plain(settings.webhook_secret)
        previous_password = _plain(settings.basic_auth_pass_previous)
        previous_secret = _plain(settings.webhook_secret_previous)
        _refuse_unsendable(user, password, secret)
        for previous, current, variable in (
            (previous_password, password, "BASIC_AUTH_PASS"),
            (previous_secret, secret, "RANKLOOP_WEBHOOK_SECRET"),
        ):
            if previous and not current:
                raise ConfigError(f"{variable}_PREVIOUS is set without {variable}", remedy=f"Set {variable} as well.")
        return cls(
            (user, password) if user else None, secret or None, previous_password or None, previous_secret or None
        )

    def admits(self, username: str | None, password: str | None) -> bool:
        """Whether a request with these Basic credentials may pass. Takes the same time whatever is wrong with them."""
        if self.basic is None:
            return True
        user_fits = _same(username, self.basic[0])
        password_fits = _any_same(password, self.basic[1], self.previous_password)
        return user_fits and password_fits

    def admits_webhook(self, username: str | None, password: str | None, secret: str | None) -> bool:
        """Whether a webhook with these Basic credentials or this `X-Rankloop-Secret` may pass; either is enough."""
        if self.basic is None and self.secret is None:
            return True
        by_secret = self.secret is not None and _any_same(secret, self.secret, self.previous_secret)
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


def _refuse_unsendable(user: str, password: str, secret: str) -> None:
    """Refuse credentials that Label Studio can't send: HTTP headers hold Latin-1 in one line.

    Raises:
        ConfigError: names the variable, not its value.
    """
    for variable, value in (
        ("BASIC_AUTH_USER", user),
        ("BASIC_AUTH_PASS", password),
        ("RANKLOOP_WEBHOOK_SECRET", secret),
    ):
        fits = all(character.isprintable() and ord(character) < 256 for character in value)
        if not fits or (variable == "BASIC_AUTH_USER" and ":" in value) or (value is secret and value != value.strip()):
            raise ConfigError(
                f"Label Studio couldn't send {variable}",
                expected="one line of letters, digits and signs of Western European languages; a user without a colon, "
                "a secret without spaces at its ends",
            )


def _plain(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret else ""


def _any_same(given: str | None, *wanted: str | None) -> bool:
    """Whether it is one of those wanted. All are compared, whichever fits."""
    return any([_same(given, one) for one in wanted if one is not None])  # noqa: C419  # a generator would stop early


def _same(given: str | None, wanted: str) -> bool:
    return hmac.compare_digest((given or "").encode("utf-8", "surrogatepass"), wanted.encode())
