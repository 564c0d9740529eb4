"""The Label Studio client without a healthy server: refusals, retries, and its own decisions."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import jwt
import pytest
from fake_label_studio import FakeLabelStudio, fake_label_studio

from ml_backend.errors import LabelStudioError
from ml_backend.label_studio.client import LabelStudio, open_label_studio
from ml_backend.label_studio.connection import BackendAddress, has_single_label_host
from ml_backend.label_studio.credentials import SECRET_HEADER, Guard
from ml_backend.label_studio.records import Webhook, versions_of
from ml_backend.label_studio.refusals import ADDRESS_REMEDY, KEY_REMEDY, LEGACY_REMEDY, SSRF_REMEDY, refused
from ml_backend.settings import load_settings
from training.errors import ConfigError

KEY = "0123456789abcdef0123456789abcdef01234567"
VERSION = {
    "release": "1.23.2",
    "edition": "Community",
    "backend": {},
    "dm2": {},
    "lsf": {},
    "label-studio-converter": {},
    "label-studio-frontend": {},
    "label-studio-os-backend": {},
    "label-studio-os-package": {},
}


@pytest.fixture
def fake() -> Iterator[FakeLabelStudio]:
    """A Label Studio that gives scripted answers."""
    with fake_label_studio() as server:
        yield server


def _client(fake: FakeLabelStudio, key: str = KEY) -> LabelStudio:
    return LabelStudio(fake.url, key, timeout_s=5)


def test_a_failing_server_is_asked_again_when_that_is_harmless(fake: FakeLabelStudio) -> None:
    """A read is retried after a 503, and the second response counts."""
    fake.on("GET /api/version", (503, {"detail": "busy"}), (200, VERSION))
    fake.on("GET /api/version/", (503, {"detail": "busy"}), (200, VERSION))
    with _client(fake) as label_studio:
        assert label_studio.release() == "1.23.2"
    assert len(fake.asked) == 2


def test_imported_judgements_count(fake: FakeLabelStudio) -> None:
    """Label Studio treats imported annotations as ground truth and omits them from its count of labeled tasks."""
    found = {"id": 3, "title": "Tea", "num_tasks_with_annotations": 0, "total_annotations_number": 32}
    fake.on("GET /api/projects/3/", (200, found))
    with _client(fake) as label_studio:
        assert label_studio.project(3).judgements == 32


def test_an_annotation_is_never_sent_twice(fake: FakeLabelStudio) -> None:
    """A failed submission isn't retried: it may have been stored anyway."""
    fake.on("POST /api/tasks/7/annotations/", (502, {"detail": "bad gateway"}))
    with _client(fake) as label_studio, pytest.raises(LabelStudioError) as caught:
        label_studio.annotate(7, [])
    assert fake.times("POST /api/tasks/7/annotations/") == 1
    assert caught.value.status == 502


def test_a_personal_access_token_is_exchanged_and_a_legacy_token_is_sent_as_it_is(fake: FakeLabelStudio) -> None:
    """Both kinds of key work, each sent the way Label Studio expects."""
    expires = int(time.time()) + 3600
    secret = "s" * 32
    refresh = jwt.encode({"exp": expires, "token_type": "refresh"}, secret)
    access = jwt.encode({"exp": expires, "token_type": "access"}, secret)
    fake.on("POST /api/token/refresh/", (200, {"access": access}))
    fake.on("GET /api/current-user/whoami", (200, {"id": 1, "email": "ada@example.com"}))
    for key in (refresh, KEY):
        with _client(fake, key) as label_studio:
            assert label_studio.whoami() == "ada@example.com"
    assert fake.keys[-2:] == [f"Bearer {access}", f"Token {KEY}"]


def test_an_expired_key_says_so_before_anything_is_sent(fake: FakeLabelStudio) -> None:
    """An expired personal access token is a 401 with the remedy, and the token isn't shown."""
    expired = jwt.encode({"exp": 1_000_000_000, "token_type": "refresh"}, "s" * 32)
    with pytest.raises(LabelStudioError) as caught:
        _client(fake, expired)
    assert caught.value.status == 401
    assert caught.value.remedy == KEY_REMEDY
    assert expired not in str(caught.value)
    assert fake.asked == []


@pytest.mark.parametrize(("status", "remedy"), [(401, "LABEL_STUDIO_API_KEY"), (403, "may not"), (404, "deleted")])
def test_a_refusal_names_the_remedy_and_never_the_key(fake: FakeLabelStudio, status: int, remedy: str) -> None:
    """401, 403 and 404 each say what to do, and carry their status."""
    fake.on("GET /api/projects/3/", (status, {"status_code": status, "detail": "No."}))
    with _client(fake) as label_studio, pytest.raises(LabelStudioError) as caught:
        label_studio.project(3)
    assert caught.value.status == status
    assert remedy in str(caught.value)
    assert KEY not in str(caught.value)


def test_a_legacy_token_where_they_are_switched_off_says_so() -> None:
    """It is a 401 like a wrong key, but copying the same token again wouldn't help."""
    body = {"detail": "Authentication token no longer valid: legacy token authentication has been disabled"}
    error = refused("identify the key's owner", 401, body, "http://ls")
    assert error.remedy == LEGACY_REMEDY
    assert "personal access token" in LEGACY_REMEDY


def test_another_web_server_is_told_from_label_studio(fake: FakeLabelStudio) -> None:
    """A page that isn't JSON means that the address is wrong, not the data."""
    fake.on("GET /api/projects/3/", (200, "<html>hello</html>"))
    with _client(fake) as label_studio, pytest.raises(LabelStudioError, match="doesn't answer like Label Studio"):
        label_studio.project(3)


def test_an_export_that_is_none_is_the_servers_fault(fake: FakeLabelStudio) -> None:
    """A refusal instead of an export names the project and the server, and doesn't blame the data."""
    fake.on("GET /api/projects/3/export", (200, {"detail": "later"}))
    with (
        _client(fake) as label_studio,
        pytest.raises(LabelStudioError, match=r"project 3 .* isn't an export") as caught,
    ):
        label_studio.export_tasks(3)
    assert fake.url in str(caught.value)


def test_only_newer_judgements_are_counted(fake: FakeLabelStudio) -> None:
    """Skips and empty annotations never count, nor do those up to the given time, whatever their offset."""
    verdict = [{"type": "choices"}]
    annotations = [
        {"updated_at": "2026-01-02T12:00:00Z", "was_cancelled": False, "result": verdict},
        {"updated_at": "2026-01-02T14:00:01+02:00", "was_cancelled": False, "result": verdict},
        {"updated_at": "2026-01-03T00:00:00Z", "was_cancelled": True, "result": verdict},
        {"updated_at": "2026-01-03T00:00:00Z", "was_cancelled": False, "result": []},
    ]
    counts = {"total": 1, "total_annotations": 4, "total_predictions": 0}
    page = {"tasks": [{"id": 1, "annotations": annotations}], **counts}
    fake.on("GET /api/tasks/", (200, page))
    with _client(fake) as label_studio:
        assert label_studio.count_judgements_since(3, None) == 2
        assert label_studio.count_judgements_since(3, "2026-01-02T12:00:00") == 1


def test_an_unreachable_server_says_how_to_mend_it() -> None:
    """The error names the unreachable address and the variable that holds it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with LabelStudio(url, KEY) as label_studio, pytest.raises(LabelStudioError) as caught:
        label_studio.annotate(1, [])
    assert url in str(caught.value)
    assert caught.value.remedy == ADDRESS_REMEDY


def test_a_server_that_never_answers_is_given_up() -> None:
    """A connection that is accepted and then ignored fails after the timeout."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        label_studio = LabelStudio(f"http://127.0.0.1:{mute.getsockname()[1]}", KEY, timeout_s=0.2)
        with label_studio, pytest.raises(LabelStudioError, match="took too long"):
            label_studio.annotate(1, [])


def test_an_empty_key_is_refused_with_where_to_get_one() -> None:
    """An empty or blank key never reaches the network."""
    with pytest.raises(LabelStudioError, match="personal access token"):
        LabelStudio("http://localhost:1", "  ")
    with pytest.raises(ConfigError, match="LABEL_STUDIO_API_KEY"):
        open_label_studio(load_settings(label_studio_api_key=None))


def test_a_private_address_that_label_studio_refuses_names_the_exact_settings() -> None:
    """The protection against request forgery answers 403, with a remedy unlike that of other 403s."""
    body = {"status_code": 403, "detail": "URL resolves to a reserved network address (block: 127.0.0.0/8)"}
    error = refused("connect the backend", 403, body, "http://ls")
    assert error.remedy == SSRF_REMEDY
    assert "SSRF_PROTECTION_ENABLED=false" in str(error)
    assert "ML_BLOCK_LOCAL_IP=false" in str(error)


def test_validation_errors_are_shown_without_markup() -> None:
    """Label Studio's form errors are passed on as plain text."""
    body = {"detail": "Validation error", "validation_errors": {"url": ["See <a href='x'>here</a>."], "n": ["Two."]}}
    assert refused("x", 400, body, "u").got == "400 See here. Two."


@pytest.mark.parametrize(
    ("url", "single"),
    [
        ("http://ml-backend:9090", True),
        ("http://localhost:9090", False),
        ("http://127.0.0.1:9090", False),
        ("http://[::1]:9090", False),
        ("http://rankloop.local:9090", False),
        ("https://example.com/base", False),
    ],
)
def test_host_names_that_get_no_webhook(url: str, single: bool) -> None:
    """Bare names get no webhooks; localhost, addresses and dotted names do."""
    assert has_single_label_host(url) is single


def test_webhook_headers_carry_what_the_backend_asks_for() -> None:
    """With a secret only that is sent, since people can read a webhook's headers. `dTpw` is base64 of `u:p`."""

    def headers(guard: Guard) -> dict[str, str]:
        return BackendAddress("http://b", "t", guard).webhook_headers()

    assert headers(Guard()) == {}
    assert headers(Guard(secret="s")) == {SECRET_HEADER: "s"}
    assert headers(Guard(("u", "p"), "s", "old p", "old s")) == {SECRET_HEADER: "s"}
    assert headers(Guard(("u", "p"))) == {"Authorization": "Basic dTpw"}


def test_a_webhook_never_shows_its_credentials() -> None:
    """Its repr leaves out the headers."""
    assert "geheim" not in repr(Webhook(1, "http://b", {"X": "geheim"}, True, True, True))


def test_versions_of_a_listed_task() -> None:
    """Label Studio joins versions with commas, with or without spaces; no version is an empty string or missing."""
    assert versions_of({"predictions_model_versions": "m-v1,m-v10, m-v2"}) == {"m-v1", "m-v10", "m-v2"}
    assert versions_of({"predictions_model_versions": ""}) == set()
    assert versions_of({}) == set()
