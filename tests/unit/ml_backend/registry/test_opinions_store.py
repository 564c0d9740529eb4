"""What a line's judgements say, stored in a real MLflow on SQLite."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from ml_backend.errors import RegistryError
from ml_backend.registry import opinions as module
from ml_backend.registry.registry import Registry
from ml_backend.settings import Settings


@pytest.fixture(autouse=True)
def _forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is remembered, so that each read asks MLflow."""
    monkeypatch.setattr(module, "_REMEMBERED_S", -1.0)


@pytest.fixture
def registry(mlflow_settings: Settings) -> Registry:
    """A registry without versions."""
    return Registry(mlflow_settings)


def test_another_process_reads_what_was_stored_last(registry: Registry, mlflow_settings: Settings) -> None:
    """Nothing before the first time; each line has its own, and a new document replaces the old one."""
    reader = Registry(mlflow_settings)
    assert reader.opinions("project-7") == {}
    for number in range(3):
        registry.store_opinions("project-7", {"people": {"judgements": number}})
        assert reader.opinions("project-7") == {"people": {"judgements": number}}
    registry.store_opinions("default", {"people": {}})
    assert reader.opinions("default") == {"people": {}}
    assert reader.opinions("project-7") == registry.opinions("project-7") == {"people": {"judgements": 2}}
    client = reader._client
    runs = client.search_runs([reader._connected()[1]], "tags.kind = 'opinions'")
    assert sorted(run.data.tags["line"] for run in runs) == ["default", "project-7"]
    assert all(run.info.status == "FINISHED" for run in runs)
    assert reader.cycle_runs() == []


def test_a_reader_never_sees_half_a_document(registry: Registry, mlflow_settings: Settings) -> None:
    """While long documents replace each other, every read is one of them, whole."""
    documents = [{"people": [number] * 20_000} for number in range(12)]
    registry.store_opinions("default", documents[0])

    def write() -> None:
        for document in documents[1:]:
            registry.store_opinions("default", document)

    writer = threading.Thread(target=write)
    writer.start()
    reader, found = Registry(mlflow_settings), []
    while writer.is_alive():
        found.append(reader.opinions("default"))
    writer.join()
    assert all(document in documents for document in found)
    assert reader.opinions("default") == documents[-1]


def test_reading_often_asks_mlflow_rarely(
    registry: Registry, mlflow_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within some seconds the same document is returned, and a caller who changes it changes nobody else's."""
    registry.store_opinions("default", {"people": {"judgements": 1}})
    reader = Registry(mlflow_settings)
    reader.opinions("default")["people"]["judgements"] = 99
    monkeypatch.setattr(module, "_REMEMBERED_S", 60.0)
    asked: list[str] = []
    monkeypatch.setattr(reader, "_read", lambda line, _known: asked.append(line))
    assert reader.opinions("default") == {"people": {"judgements": 1}}
    assert asked == []


def test_a_damaged_document_is_named(registry: Registry, mlflow_settings: Settings) -> None:
    """Somebody cut the stored file short: that is said, and the next document replaces it."""
    registry.store_opinions("default", {"people": {"judgements": 1}})
    stored: list[Path] = list((mlflow_settings.home() / "mlartifacts").rglob("opinions-*.json"))
    stored[0].write_text('{"people": {')
    with pytest.raises(RegistryError, match="the stored opinions of line default are damaged"):
        Registry(mlflow_settings).opinions("default")
    registry.store_opinions("default", {"people": {"judgements": 2}})
    found: dict[str, Any] = Registry(mlflow_settings).opinions("default")
    assert found == {"people": {"judgements": 2}}
