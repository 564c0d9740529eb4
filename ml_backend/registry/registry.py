"""The registry of one model name: its versions, who is champion, and the cycles that made them."""

from __future__ import annotations

from ml_backend.registry.runs import Runs
from ml_backend.registry.versions import Versions


class Registry(Versions, Runs):
    """The registry of one model name: its versions, who is champion, and the cycles that made them.

    Connects at first use, from any thread; the first use ever takes seconds, because MLflow makes its tables.

    Every method raises RegistryError when MLflow refuses or doesn't answer.
    """
