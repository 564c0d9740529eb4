"""Credentials: which are accepted, which are rejected, and what is refused at startup."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ml_backend.label_studio.credentials import Guard, refuse_open_bind
from ml_backend.settings import load_settings
from training.errors import ConfigError


def _settings(tmp_path: Path, **overrides: Any) -> Any:
    return load_settings(data_dir=tmp_path, **overrides)


def test_everyone_passes_where_nothing_is_configured() -> None:
    """Without configured credentials the backend is open, including webhooks."""
    assert Guard().admits(None, None)
    assert Guard().admits_webhook(None, None, None)


@pytest.mark.parametrize(
    ("username", "password", "passes"),
    [
        ("ann", "pässword", True),
        ("ann", "x", False),
        ("", "pässword", False),
        (None, None, False),
        ("ann", None, False),
    ],
)
def test_basic_auth_needs_both_halves(username: str | None, password: str | None, passes: bool) -> None:
    """Only the exact pair is accepted; non-ASCII characters are compared like others."""
    assert Guard(basic=("ann", "pässword")).admits(username, password) is passes


@pytest.mark.parametrize(
    ("guard", "basic", "secret", "passes"),
    [
        (Guard(basic=("a", "b"), secret="s"), ("a", "b"), None, True),
        (Guard(basic=("a", "b"), secret="s"), (None, None), "s", True),
        (Guard(basic=("a", "b"), secret="s"), ("a", "x"), "x", False),
        (Guard(basic=("a", "b")), (None, None), "s", False),
        (Guard(secret="s"), (None, None), "s", True),
        (Guard(secret="s"), ("a", "b"), None, False),
        (Guard(secret="s"), (None, None), "", False),
    ],
)
def test_a_webhook_passes_by_either_way(
    guard: Guard, basic: tuple[str | None, str | None], secret: str | None, passes: bool
) -> None:
    """A webhook needs the Basic pair or the secret, whichever is configured."""
    assert guard.admits_webhook(*basic, secret) is passes


def test_half_of_a_pair_is_refused(tmp_path: Path) -> None:
    """A user without a password is refused, since it would silently leave the backend open."""
    with pytest.raises(ConfigError, match="BASIC_AUTH_PASS"):
        Guard.from_settings(_settings(tmp_path, basic_auth_user="ann"))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.8.8.8"])
def test_loopback_may_be_open(tmp_path: Path, host: str) -> None:
    """On loopback no credentials are needed."""
    refuse_open_bind(_settings(tmp_path, host=host))


@pytest.mark.parametrize("host", ["", "0", "0.0.0.0", "::", "192.168.1.4", "localhost.example", "backend.example"])  # noqa: S104  # nothing is bound
def test_the_world_needs_credentials(tmp_path: Path, host: str) -> None:
    """Beyond loopback the backend starts with Basic auth, or if told that something else protects it."""
    with pytest.raises(ConfigError, match="BASIC_AUTH_USER"):
        refuse_open_bind(_settings(tmp_path, host=host))
    refuse_open_bind(_settings(tmp_path, host=host, allow_open=True))
    refuse_open_bind(_settings(tmp_path, host=host, basic_auth_user="a", basic_auth_pass="b"))
