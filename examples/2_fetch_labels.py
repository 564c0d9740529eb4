"""Fetch the rankings and turn them into preferences for training.

python examples/2_fetch_labels.py --project 1 --out preferences.jsonl
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from label_studio_sdk import LabelStudio

from ml_backend.labels import judgements_from_export, parse_label_config
from training.data import aggregate, agreement, split_of, write_preferences


def main(
    project: Annotated[int, typer.Option(help="The project's id.")],
    out: Annotated[Path, typer.Option(help="Where to write preferences, as JSON lines.")] = Path("preferences.jsonl"),
) -> None:
    """Fetch the rankings and turn them into preferences for training."""
    url = os.environ.get("LABEL_STUDIO_URL", "http://localhost:8080")
    label_studio = LabelStudio(base_url=url, api_key=os.environ["LABEL_STUDIO_API_KEY"])

    config = parse_label_config(label_studio.projects.get(project).label_config or "")
    exported = label_studio.projects.exports.as_json(project)
    judgements, summary = judgements_from_export(exported, config, project)
    preferences = aggregate(judgements)
    write_preferences(out, preferences)

    # Every annotation is accounted for: kept, skipped, or dropped for a stated reason.
    typer.echo(json.dumps(asdict(summary), indent=2))
    parts = Counter(split_of(preference.prompt).value for preference in preferences)
    typer.echo(f"{len(preferences)} preferences in {out}: {dict(parts)}")
    agreed = agreement(judgements)
    if agreed is not None:
        typer.echo(f"Two annotators of the same pair agree {agreed:.0%} of the time.")
    typer.echo(f"Next: python examples/3_train_and_feed_back.py --project {project} --preferences {out}")


if __name__ == "__main__":
    typer.run(main)
