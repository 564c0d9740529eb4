"""The three example scripts, run one after the other as a reader would, against a real Label Studio."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ml_backend.label_studio.client import LabelStudio
from training.data.files import read_preferences

if TYPE_CHECKING:
    from ml_backend.demo.label_studio_server import LabelStudioServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
SMALL = {
    "reward": {"epochs": 2},
    "ppo": {
        "iterations": 2,
        "prompts_per_iteration": 8,
        "minibatch_size": 8,
        "epochs": 1,
        "sampling": {"max_new_tokens": 12, "top_k": 0, "top_p": 1.0},
    },
}


def _run(server: LabelStudioServer, folder: Path, script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / script), *arguments],
        cwd=folder,
        env={**os.environ, "LABEL_STUDIO_URL": server.url, "LABEL_STUDIO_API_KEY": server.token},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_tutorial_from_prompts_to_better_answers(label_studio_server: LabelStudioServer, tmp_path: Path) -> None:
    """Prompts become pairs, rankings become preferences, and the trained model's scores and answers come back."""
    prompts = str(ROOT / "ml_backend" / "demo" / "data" / "prompts.txt")
    made = _run(label_studio_server, tmp_path, "1_make_dataset.py", "--prompts", prompts, "--limit", "60")
    found = re.search(r"(\d+) pairs wait in project (\d+)", made)
    assert found
    pairs, project = int(found.group(1)), int(found.group(2))
    assert pairs > 40

    with LabelStudio(label_studio_server.url, label_studio_server.token) as label_studio:
        tasks = label_studio.open_tasks(project)
        for task in tasks[:40]:
            selected = "left" if len(task["data"]["answer1"]) < len(task["data"]["answer2"]) else "right"
            region = {"type": "pairwise", "from_name": "comparison", "to_name": "comparison"}
            label_studio.annotate(task["id"], [{**region, "value": {"selected": selected}}])
        label_studio.skip(tasks[40]["id"])

        fetched = _run(label_studio_server, tmp_path, "2_fetch_labels.py", "--project", str(project))
        summary, _ = json.JSONDecoder().raw_decode(fetched)
        assert (summary["annotations"], summary["kept"], summary["skipped"]) == (41, 40, 1)
        preferences = read_preferences(tmp_path / "preferences.jsonl")
        assert all(len(preference.chosen) <= len(preference.rejected) for preference in preferences)

        (tmp_path / "small.json").write_text(json.dumps(SMALL), encoding="utf-8")
        options = ("--project", str(project), "--config", "small.json", "--fresh", "5")
        _run(label_studio_server, tmp_path, "3_train_and_feed_back.py", *options)
        opinions = label_studio.predictions(project)
        assert {opinion["task"] for opinion in opinions} == {task["id"] for task in tasks[41:]}
        assert all(0.5 <= opinion["score"] <= 1 for opinion in opinions)
        assert all(opinion["result"][0]["value"]["selected"] in {"left", "right"} for opinion in opinions)
        assert pairs < label_studio.project(project).tasks <= pairs + 5
