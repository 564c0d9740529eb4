"""The app with a registry and a job queue in memory, and somebody who looks at its pages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from page_fakes import PageJobs, PageRegistry
from page_reader import Reader

from ml_backend.http.app import create_app
from ml_backend.settings import load_settings


@pytest.fixture
def page_registry() -> PageRegistry:
    """A line `eggs` with a base, a champion and a newer version."""
    return PageRegistry()


@pytest.fixture
def page_jobs() -> PageJobs:
    """Nothing runs; 41 of 50 judgements are there."""
    return PageJobs()


@pytest.fixture
def make_reader(page_registry: PageRegistry, page_jobs: PageJobs, tmp_path: Path) -> Callable[..., Reader]:
    """Makes an app with settings, and its reader."""

    def make(**overrides: Any) -> Reader:
        secured = {"basic_auth_user": "ann", "basic_auth_pass": "secret"}
        settings = load_settings(**{"data_dir": tmp_path, **secured, **overrides})
        proposer = SimpleNamespace(loaded=lambda: {"eggs": "rankloop.eggs-v2"}, fault=None, waiting=0, version=None)
        app = create_app(settings, proposer, page_jobs, page_registry)  # type: ignore[arg-type]  # fakes of our edges
        return Reader(app.test_client())

    return make


@pytest.fixture
def reader(make_reader: Callable[..., Reader]) -> Reader:
    """Somebody logged in."""
    return make_reader()
