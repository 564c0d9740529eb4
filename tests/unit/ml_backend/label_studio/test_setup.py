"""A project's prompts: which texts are the prompt, and what becomes of the rows of a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ml_backend.errors import LabelConfigError
from ml_backend.label_studio.setup import ReadyProject, init_project
from ml_backend.labels.config import parse_label_config
from training.data.prompt_sources import PromptSource

ANSWERS = """<TextArea name="answer1" toName="q"/><TextArea name="answer2" toName="q"/>
  <Choices name="verdict" toName="q"><Choice value="answer1"/><Choice value="answer2"/></Choices>"""
ONE = f'<View><Text name="q" value="$question"/>{ANSWERS}</View>'
TWO = f'<View><Text name="s" value="$system"/><Text name="q" value="$question"/>{ANSWERS}</View>'
CHAT = f'<View><Paragraphs name="q" value="$talk" nameKey="who" textKey="said"/>{ANSWERS}</View>'


@dataclass
class OneProject:
    """Label Studio with a single project."""

    label_config: str
    id: int = 1
    title: str = "Kitchen"
    rows: list[Mapping[str, Any]] = field(default_factory=list)

    def ensure_project(self, _title: str, label_config: str | None, *, project_id: int | None) -> OneProject:
        """The project, with that label config."""
        assert project_id == self.id
        self.label_config = label_config or self.label_config
        return self

    def project(self, _number: int) -> OneProject:
        """The project."""
        return self

    def update_project(self, _number: int, *, label_config: str) -> OneProject:
        """Change its label config."""
        self.label_config = label_config
        return self

    def tasks(self, _number: int) -> list[dict[str, Any]]:
        """Its tasks."""
        return [{"data": row} for row in self.rows]

    def import_tasks(self, _number: int, rows: Sequence[Mapping[str, Any]], _progress: object) -> None:
        """Add tasks."""
        self.rows += rows


def make_ready(label_studio: OneProject, source: Path, *fields: str, config: str | None = None) -> ReadyProject:
    """Set the project up without a backend."""
    prompts = PromptSource(str(source))
    return init_project(
        label_studio,  # type: ignore[arg-type]
        None,
        project_id=1,
        label_config=config,
        prompts=prompts,
        prompt_fields=fields,
    )


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Two usable rows and one that isn't."""
    path = tmp_path / "rows.jsonl"
    made = [{"system": "Be brief.", "question": name, "text": f"About {name}"} for name in ("Tea?", "Ham?")]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*made, {"other": 1}]), encoding="utf-8")
    return path


def test_a_column_of_another_name_is_the_prompt(rows: Path) -> None:
    """The label config stays as it is; a second time, nothing is imported twice."""
    project = OneProject(ONE)
    ready = make_ready(project, rows, "text")
    assert project.rows == [{"question": "About Tea?"}, {"question": "About Ham?"}]
    assert (ready.imported, project.label_config) == (2, ONE)
    assert ready.left_out == '1 row left out: line 3 (no "text")'
    assert make_ready(project, rows, "text").already_there == 2


def test_several_texts_are_noted_in_the_label_config(rows: Path) -> None:
    """Without saying which is the prompt it is refused; every text that is shown is imported."""
    project = OneProject(TWO)
    with pytest.raises(LabelConfigError, match=r"several texts could be the prompt: s, q.*--prompt-field"):
        make_ready(project, rows)
    make_ready(project, rows, "system", "question")
    assert project.rows == [{"system": "Be brief.", "question": "Tea?"}, {"system": "Be brief.", "question": "Ham?"}]
    assert parse_label_config(project.label_config).prompt_of(project.rows[0]) == "Be brief.\n\nTea?"
    make_ready(project, rows, "q", config=TWO)
    assert parse_label_config(project.label_config).prompt_of(project.rows[0]) == "Tea?"


def test_a_tag_for_conversations_gets_messages(rows: Path) -> None:
    """With the keys that the tag reads."""
    project = OneProject(CHAT)
    make_ready(project, rows, "text")
    assert project.rows[0] == {"talk": [{"who": "user", "said": "About Tea?"}]}
