"""The served OpenAPI description, and requests generated from it: every answer conforms to it."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from edge_fakes import FakeJobs, FakeRegistry
from flask import Flask
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import ignored_auth, negative_data_rejection, positive_data_acceptance

from ml_backend.http.app import create_app
from ml_backend.http.openapi import describe
from ml_backend.label_studio.credentials import Guard
from ml_backend.serving.proposer import Proposer
from ml_backend.settings import load_settings

BASIC = {"Authorization": "Basic " + base64.b64encode(b"ann:secret").decode()}
SLOWEST_S = 10.0
"""The longest that such a request may take, even on a busy machine; they take milliseconds."""
UNWANTED = [positive_data_acceptance, negative_data_rejection, ignored_auth]
"""What the description allows may still be rejected (a labeling configuration that compares nothing is valid text),
and what it doesn't name may be sent: Label Studio's requests contain more than is needed.
Credentials have their own test, since this check takes ours for generated ones."""


@pytest.fixture(scope="module")
def app(tiny_model_dir: Path, version_folders: dict[str, Path], tmp_path_factory: Any) -> Iterator[Flask]:
    """The app over a real small model."""
    chosen = load_settings(
        data_dir=tmp_path_factory.mktemp("openapi"),
        model=str(tiny_model_dir),
        device="cpu",
        max_new_tokens=4,
        predict_deadline_s=5.0,
        basic_auth_user="ann",
        basic_auth_pass="secret",
        webhook_secret="s3cret",
    )
    registry = FakeRegistry(version_folders)
    registry.promote("rankloop-v2")
    proposer = Proposer(registry, chosen)  # type: ignore[arg-type]  # a fake of our own edge
    proposer.start()
    assert proposer.wait_until_loaded(60)
    yield create_app(chosen, proposer, FakeJobs(), registry)  # type: ignore[arg-type]
    proposer.stop()


@pytest.fixture(scope="module")
def api(app: Flask) -> Any:
    """The description as the app serves it."""
    return schemathesis.openapi.from_wsgi("/openapi.json", app, headers=BASIC)


OPERATIONS = [(path, method) for path, item in describe(Guard())["paths"].items() for method in item]
MADE_UP = [(*operation, GenerationMode.POSITIVE) for operation in OPERATIONS] + [
    (*operation, GenerationMode.NEGATIVE) for operation in OPERATIONS if operation[1] == "post"
]


@pytest.mark.parametrize(("path", "method", "mode"), MADE_UP)
def test_requests_made_up_from_the_description(api: Any, path: str, method: str, mode: GenerationMode) -> None:
    """Valid and invalid requests alike: no 5xx, no hang, an answer as described, and readable errors."""

    @given(api[path][method].as_strategy(generation_mode=mode))
    @settings(
        max_examples=80 if method == "post" else 5,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: schemathesis.Case) -> None:
        began = time.monotonic()
        response = case.call(headers=BASIC)
        assert time.monotonic() - began < SLOWEST_S
        case.validate_response(response, excluded_checks=UNWANTED)
        if response.status_code >= 400 and case.method != "HEAD":
            assert len(response.json()["error"]) > 20

    check()


def test_every_address_is_described(app: Flask) -> None:
    """The description has each route with its methods, and no others; pages for people are no part of it."""
    described = {(path, method.upper()) for path, item in _description(app)["paths"].items() for method in item}
    rules = [rule for rule in app.url_map.iter_rules() if not rule.endpoint.startswith("page.")]
    served = {(rule.rule, m) for rule in rules for m in rule.methods or () if m != "HEAD"}
    assert described == served


def test_every_address_is_documented() -> None:
    """docs/operations.md lists each address with its method."""
    page = (Path(__file__).parents[4] / "docs" / "operations.md").read_text(encoding="utf-8")
    for path, method in OPERATIONS:
        assert f"`{method.upper()} {path}`" in page


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_what_the_description_guards_is_guarded(app: Flask, path: str, method: str) -> None:
    """Requests without credentials are rejected exactly where the description requires them."""
    security = _description(app)["paths"][path][method]["security"]
    answer = app.test_client().open(path, method=method, json={})
    assert (answer.status_code == 401) == bool(security)


def test_what_label_studio_sends_fits_the_description(app: Flask) -> None:
    """The description uses Label Studio's field names."""
    schemas = _description(app)["components"]["schemas"]
    assert "schema" in schemas["SetupRequest"]["properties"]
    assert schemas["PredictRequest"]["required"] == ["tasks"]
    assert schemas["WebhookRequest"]["required"] == ["action"]


def _description(app: Flask) -> Any:
    return app.test_client().get("/openapi.json", headers=BASIC).json
