"""A worker process for a test to kill, with settings from the command line."""

from __future__ import annotations

import json
import logging
import signal
import sys

from judged_project import JudgedProject

from ml_backend.loop.worker import Worker
from ml_backend.settings import load_settings

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    Worker(load_settings(**json.loads(sys.argv[1])), open_connection=JudgedProject(judged=50).open).start()
    signal.pause()
