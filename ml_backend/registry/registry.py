"""The registry client: every operation in one object."""

from __future__ import annotations

from ml_backend.registry.opinions import Opinions
from ml_backend.registry.reports import Reports
from ml_backend.registry.stored import Stored


class Registry(Stored, Reports, Opinions):
    """The registry of one model name: its lines, their versions and champions, the cycles that made them, and
    what the judgements of each line say.

    Connects on first use, from any thread; the very first use takes seconds, because MLflow creates its tables.

    Every method raises RegistryError when MLflow refuses a request or doesn't answer.
    """
