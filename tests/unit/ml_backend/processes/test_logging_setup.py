"""Log lines: their format, their ids, and that malformed content does no harm."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from ml_backend.processes.logs import configure_logging, log_context, start_request

logger = logging.getLogger("rankloop.test")


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Captures the log, and restores the logging setup afterwards."""
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    yield io.StringIO()
    root.setLevel(before[0])
    root.handlers[:] = before[1]


def _lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_lines_of_a_request_carry_its_ids(log: io.StringIO) -> None:
    """The request's id is on every line, a workflow's only within it; the next request has its own."""
    configure_logging("json", stream=log)
    start_request("first-1")
    logger.info("came")
    with log_context(workflow_id="cycle-7", step=None):
        logger.info("works", extra={"ms": 5})
    second = start_request(None)
    logger.warning("came %s", "again")
    first, within, other = _lines(log)
    assert (first["event"], first["request_id"], first["level"]) == ("came", "first-1", "info")
    assert "workflow_id" not in first
    assert (within["request_id"], within["workflow_id"], within["ms"]) == ("first-1", "cycle-7", 5)
    assert "step" not in within
    assert (other["event"], other["request_id"]) == ("came again", second)
    assert second != "first-1"


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "a\nb", "-", "ü"])
def test_an_id_that_could_forge_lines_is_replaced(given: str) -> None:
    """Only short plain ids are adopted from the caller."""
    assert start_request(given) != given


def _fail(reason: object) -> None:
    raise ValueError(reason)


def _count(hidden: str) -> None:
    _fail(len(hidden))


def test_a_line_is_one_line_whatever_is_in_it(log: io.StringIO) -> None:
    """Line breaks, lone surrogates and a traceback all stay within one JSON object."""
    configure_logging("json", stream=log)
    try:
        _fail("bad\nthing")
    except ValueError:
        logger.exception("a\nb \ud800")
    (line,) = _lines(log)
    assert line["event"] == "a\nb \ud800"
    assert line["exception"].endswith("ValueError: bad\nthing")


def test_a_traceback_shows_no_local_variables(log: io.StringIO) -> None:
    """Text logs have plain tracebacks, too: the values of variables may be prompts or passwords."""
    configure_logging("text", stream=log)
    try:
        _count("".join(["pass", "word"]))
    except ValueError:
        logger.exception("failed")
    assert "ValueError: 8" in log.getvalue()
    assert "password" not in log.getvalue()
