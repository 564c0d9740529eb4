"""Log lines that belong together carry the same ids: a request's, a workflow's, a step's.

Every module logs with the standard library; structlog lays the lines out, for people or as JSON, and puts onto each
what `log_context` has bound. Nothing that people or models wrote is logged: no prompts, answers, tokens or bodies.
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
"""They tell every request they make or every step they take."""


def configure_logging(form: str = "text", *, level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Send this process's log to stderr, one line (and for a fault its traceback) per event.

    Args:
        form: `text` for people, `json` for one JSON object per line.
        level: the least important level that is shown.
        stream: where to write instead of stderr.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # the plain traceback: the other one shows local variables, prompts and passwords among them
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
    """Put these ids onto every line that is logged within; what is None is left out."""
    return structlog.contextvars.bound_contextvars(**{name: value for name, value in ids.items() if value is not None})


def start_request(given: str | None) -> str:
    """Begin a request on this thread: forget the one before, and put the new one's id onto every line.

    Args:
        given: the id that the caller sent, taken over where it is short and plain.

    Returns:
        The request's id.
    """
    request_id = given if given and _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex[:16]
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id)
    return request_id


def end_request() -> None:
    """The request is over: what this thread logs next has nothing to do with it."""
    structlog.contextvars.clear_contextvars()


def log_tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log file; empty where there is none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
