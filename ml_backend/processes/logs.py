"""Logging, with the ids of the request, workflow or step on every line.

Every module logs with the standard library; structlog formats the lines, as text or JSON, and adds what `log_context`
has bound. Nothing that people or models wrote is logged: no prompts, answers, tokens or bodies.
"""

from __future__ import annotations

import logging
import re
import uuid
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TextIO

import structlog

_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NOISY = ("httpx", "httpcore", "urllib3", "alembic", "dbos")
"""They log every request or every step."""


def configure_logging(form: str = "text", *, level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Send this process's log to stderr, one line per event (plus any traceback).

    Args:
        form: `text` for people, `json` for one JSON object per line.
        level: the lowest level that is logged.
        stream: where to write instead of stderr.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # plain tracebacks: the default ones show local variables, which may hold prompts and passwords
    renderers: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if form == "json"
        else [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)]
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)


def log_context(**ids: str | int | None) -> AbstractContextManager[None]:
    """Add these ids to every line logged within the context; those that are None are left out."""
    return structlog.contextvars.bound_contextvars(**{name: value for name, value in ids.items() if value is not None})


def start_request(given: str | None) -> str:
    """Begin a request on this thread: forget the previous one, and add the new one's id to every line.

    Args:
        given: the id that the caller sent, adopted if it is short and plain.

    Returns:
        The request's id.
    """
    request_id = given if given and _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex[:16]
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id)
    return request_id


def end_request() -> None:
    """End the request: its id no longer appears on this thread's log lines."""
    structlog.contextvars.clear_contextvars()


def log_tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log file; empty if it doesn't exist."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
