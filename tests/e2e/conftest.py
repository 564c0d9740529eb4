"""Fixtures of the tests against real servers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ml_backend.label_studio_server import LabelStudioServer


@pytest.fixture(scope="session")
def label_studio_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudioServer]:
    """A real Label Studio with a data folder of its own. Its first start takes half a minute, so all tests share it."""
    from ml_backend.label_studio_server import LabelStudioServer

    with LabelStudioServer(tmp_path_factory.mktemp("label-studio")) as running:
        yield running
