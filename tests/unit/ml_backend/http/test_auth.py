"""Credentials: which are accepted, which are rejected, and what is refused at startup."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("basic_auth_user", "ann:lee"),
        ("basic_auth_pass", "line\nbreak"),
        ("basic_auth_pass", "\N{SNOWMAN}"),
        ("webhook_secret", " geheim"),
        ("webhook_secret", "\N{EURO SIGN}"),
    ],
)
def test_what_label_studio_cannot_send_is_refused_at_the_start(tmp_path: Path, name: str, value: str) -> None:
    """Otherwise every request would be refused later. The error names the variable, and doesn't show the value."""
    given = {"basic_auth_user": "ann", "basic_auth_pass": "b", "webhook_secret": "s", name: value}
    with pytest.raises(ConfigError, match=name.upper()) as caught:
        Guard.from_settings(_settings(tmp_path, **given))
    assert value not in str(caught.value)


def test_secrets_come_from_files_with_any_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line break at the end of a file isn't part of the secret; everything else is."""
    path = tmp_path / "secret"
    path.write_text("p@ss:/?#[] %20'\"\\$ä \n", encoding="utf-8")
    for variable in ("BASIC_AUTH_PASS", "RANKLOOP_DATABASE_PASSWORD", "LABEL_STUDIO_API_KEY"):
        monkeypatch.setenv(f"{variable}_FILE", str(path))
        monkeypatch.delenv(variable, raising=False)
    settings = load_settings(
        data_dir=tmp_path,
        database_url="postgresql://ann@db:5432/jobs",
        mlflow_tracking_uri="postgresql+psycopg://ann@db/versions",
    )
    assert settings.basic_auth_pass.get_secret_value() == "p@ss:/?#[] %20'\"\\$ä "
    jobs = make_url(settings.jobs_database_url())
    assert (jobs.username, jobs.password, jobs.port) == ("ann", "p@ss:/?#[] %20'\"\\$ä ", 5432)
    assert make_url(settings.tracking_uri()).password == jobs.password
    own = load_settings(data_dir=tmp_path, database_url="postgresql://ann:own@db/jobs")
    assert own.jobs_database_url() == "postgresql://ann:own@db/jobs"


def test_a_secret_file_that_is_no_use_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file, an empty one, and both variables at once."""
    monkeypatch.setenv("RANKLOOP_WEBHOOK_SECRET_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="RANKLOOP_WEBHOOK_SECRET_FILE"):
        load_settings()
    (tmp_path / "none").write_text("\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="is empty"):
        load_settings()
    monkeypatch.setenv("RANKLOOP_WEBHOOK_SECRET", "s")
    with pytest.raises(ConfigError, match="both set"):
        load_settings()


def test_a_previous_credential_needs_a_current_one(tmp_path: Path) -> None:
    """Otherwise the old secret would be thought to be in force."""
    with pytest.raises(ConfigError, match="RANKLOOP_WEBHOOK_SECRET_PREVIOUS"):
        Guard.from_settings(_settings(tmp_path, webhook_secret_previous="old"))
    with pytest.raises(ConfigError, match="BASIC_AUTH_PASS_PREVIOUS"):
        Guard.from_settings(_settings(tmp_path, basic_auth_pass_previous="old"))


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
