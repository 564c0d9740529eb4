"""What is remembered of a project between two looks, so that Label Studio needn't be read from its beginning.

It is no record, only a shortcut: where the file is lost, everything is found out again.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from training.atomic import write_atomically

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is known of a project.

    server: the Label Studio that it is in.
    mark: the counts and settings at the last look that left nothing to do.
    judged_to: tasks that were judged up to then have been looked through for bad pairs, as ISO 8601.
    listed_to: tasks up to this id have been looked through for those made here.
    made: the keys of the places that have a task.
    asks: what the prompts and answers of the label config were when the stored proposals were last checked.
    """

    server: str
    mark: list[Any] = field(default_factory=list)
    judged_to: str | None = None
    listed_to: int = 0
    made: list[str] = field(default_factory=list)
    asks: list[Any] = field(default_factory=list)


def read_remembered(path: Path, server: str) -> Remembered:
    """What is remembered of a project of this server; nothing if the file is missing, damaged or of another server."""
    try:
        found = Remembered(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return Remembered(server)
    except (OSError, ValueError, TypeError) as error:
        logger.warning("%s can't be read, so its project is looked through again: %s", path, error)
        return Remembered(server)
    return found if found.server == server else Remembered(server)


def remember(path: Path, found: Remembered) -> None:
    """Keep it, atomically."""
    write_atomically(path, json.dumps(asdict(found)) + "\n")
