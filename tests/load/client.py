"""One kind of client in its own process: `python -m load.client ORDER.json`. Needs only the standard library.

Requests are sent when they are due, whether earlier ones have been answered or not, each on its own connection, as
with Label Studio. Latency is measured from the moment the request was due.
"""

from __future__ import annotations

import base64
import json
import random
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

PATIENCE_S = {"health": 1.0, "setup": 3.0, "webhook": 1.0, "predict": 100.0, "predict of 5,000": 100.0}
"""When Label Studio gives up."""
SENDERS = 64

Sample = tuple[str, float, str]
"""The kind of request, milliseconds, and what was wrong (empty if nothing was)."""


class Client:
    """Sends a server the requests that Label Studio would send.

    Args:
        order: `host`, `port`, `seconds`, `headers`, `bodies` by kind, `prompts`, and the role's parameters.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        self._until = time.monotonic() + order["seconds"]
        self.samples: list[Sample] = []

    def probe(self) -> None:
        """Health and setup, ten times a second each."""
        self._at_rate(20.0, lambda number: self._probe_once(number))

    def webhooks(self) -> None:
        """A given number of webhooks a second."""
        body = json.dumps(self._order["bodies"]["webhook"])
        self._at_rate(self._order["rate"], lambda _: self._send("webhook", "/webhook", body, time.monotonic()))

    def annotators(self) -> None:
        """People who each open a task, think, and open the next; Label Studio requests health and setup first."""
        threads = [threading.Thread(target=self._annotate, args=(seed,)) for seed in range(self._order["people"])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def bulk(self) -> None:
        """Retrieve Predictions on a whole project, again and again."""
        while time.monotonic() < self._until:
            tasks = [_task(number, self._order["prompts"]) for number in range(self._order["tasks"])]
            body = json.dumps({**self._order["bodies"]["predict"], "tasks": tasks})
            self._send("predict of 5,000", "/predict", body, time.monotonic(), len(tasks))

    def _at_rate(self, per_second: float, send: Callable[[int], None]) -> None:
        pause, due, number = threading.Event(), time.monotonic(), 0
        with ThreadPoolExecutor(SENDERS) as senders:
            while due < self._until:
                pause.wait(max(0.0, due - time.monotonic()))
                senders.submit(send, number)
                number += 1
                due += 1.0 / per_second

    def _probe_once(self, number: int) -> None:
        if number % 2:
            self._send("health", "/health", None, time.monotonic())
        else:
            self._send("setup", "/setup", json.dumps(self._order["bodies"]["setup"]), time.monotonic())

    def _annotate(self, seed: int) -> None:
        dice, pause = random.Random(seed), threading.Event()
        pause.wait(dice.uniform(0.0, self._order["think_s"]))
        number = 0
        while time.monotonic() < self._until:
            number += 1
            task = _task(1_000_000 + seed * 10_000 + number, self._order["prompts"])
            body = json.dumps({**self._order["bodies"]["predict"], "tasks": [task]})
            self._send("health", "/health", None, time.monotonic())
            self._send("setup", "/setup", json.dumps(self._order["bodies"]["setup"]), time.monotonic())
            self._send("predict", "/predict", body, time.monotonic(), 1)
            pause.wait(dice.uniform(0.5, 1.5) * self._order["think_s"])

    def _send(self, kind: str, path: str, body: str | None, due: float, tasks: int = 0) -> None:
        connection = HTTPConnection(self._order["host"], self._order["port"], timeout=PATIENCE_S[kind])
        headers = {"Content-Type": "application/json", **self._order["headers"]}
        try:
            connection.request("POST" if body else "GET", path, body.encode() if body else None, headers)
            answer = connection.getresponse()
            content = answer.read()
            wrong = "" if answer.status < 300 else f"{answer.status} {answer.reason}"
            if not wrong and tasks:
                wrong = _fault_in(json.loads(content), tasks)
        except (OSError, HTTPException, ValueError) as error:
            wrong = f"{type(error).__name__}: {error}"
        finally:
            connection.close()
        took_s = time.monotonic() - due
        if not wrong and took_s > PATIENCE_S[kind]:
            wrong = f"took {took_s:.1f} s"
        self.samples.append((kind, 1000 * took_s, wrong))


def _fault_in(answer: dict[str, Any], tasks: int) -> str:
    """What Label Studio couldn't use, or an empty string. A task left to a background job has an empty result."""
    results = answer.get("results", [])
    if len(results) != tasks:
        return f"{len(results)} results for {tasks} tasks"
    if any(not isinstance(item["model_version"], str) for item in results):
        return "a result without a version"
    if tasks == 1 and not results[0]["result"]:
        return "no answers in time"
    return ""


def _task(number: int, prompts: list[str]) -> dict[str, Any]:
    data = {"prompt": prompts[number % len(prompts)]}
    moment = "2026-01-01T00:00:00.000000Z"
    rest = {"meta": {}, "is_labeled": False, "overlap": 1, "inner_id": number, "annotations": [], "predictions": []}
    return {"id": number, "data": data, "created_at": moment, "updated_at": moment, "project": 1, **rest}


def basic(user: str, password: str) -> dict[str, str]:
    """The header with the credentials."""
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def main() -> None:
    """Carry out the order, and write the samples to its file."""
    order = json.loads(Path(sys.argv[1]).read_bytes())
    client = Client(order)
    getattr(client, order["role"])()
    Path(order["samples"]).write_text(json.dumps(client.samples), encoding="utf-8")


if __name__ == "__main__":
    main()
