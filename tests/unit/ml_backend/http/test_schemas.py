"""Parsing of Label Studio's requests, and the errors for invalid ones."""

from __future__ import annotations

import pytest

from ml_backend.http.messages import PredictRequest, SetupRequest, WebhookRequest, parse_request
from training.errors import DataError


@pytest.mark.parametrize(
    ("sent", "read"), [("1.1795380917", 1), ("42", 42), (7, 7), (12.5, 12), (None, None), ("", None)]
)
def test_a_project_is_read_however_it_is_written(sent: object, read: int | None) -> None:
    """Label Studio writes `{id}.{created}`; plain ids and missing ones are accepted too."""
    assert parse_request(SetupRequest, {"project": sent}).project == read


def test_unknown_keys_and_null_are_tolerated() -> None:
    """A PATCH of the backend sends `extra_params: null`; newer versions may send more."""
    body = {"project": "1.2", "schema": "<View/>", "extra_params": None, "hostname": "x", "brand_new": [1]}
    assert parse_request(SetupRequest, body).label_config == "<View/>"


@pytest.mark.parametrize(
    ("schema", "body", "named"),
    [
        (PredictRequest, {}, "'tasks' of the request is missing"),
        (PredictRequest, {"tasks": "all"}, "'tasks'.*is a text of 3 characters"),
        (PredictRequest, {"tasks": [{"id": 1}, 5]}, "'tasks.1'.*is 5"),
        (PredictRequest, {"tasks": None}, "'tasks'"),
        (PredictRequest, {"tasks": [], "label_config": 4}, "'label_config'.*is 4"),
        (PredictRequest, {"tasks": [], "params": []}, "'params'"),
        (PredictRequest, {"tasks": [], "project": "abc"}, "'project'.*is a text of 3 characters"),
        (WebhookRequest, {"project": {"id": 1}}, "'action' of the request is missing"),
        (WebhookRequest, {"action": None}, "'action'"),
        (WebhookRequest, {"action": "X", "project": {"id": {}}}, "'project.id'"),
        (WebhookRequest, [1, 2], "expected a JSON object"),
        (WebhookRequest, None, "is null; expected a JSON object"),
        (WebhookRequest, {"action": "X", "project": {"id": 2**63}}, "'project.id'.*is a huge number"),
    ],
)
def test_a_fault_names_its_field(schema: type, body: object, named: str) -> None:
    """The error names the invalid field and describes its value without quoting it: it may be a secret."""
    with pytest.raises(DataError, match=named):
        parse_request(schema, body)
