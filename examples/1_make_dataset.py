"""Create a dataset to rank: a Label Studio project with two sampled answers to each prompt.

export LABEL_STUDIO_URL=http://localhost:8080 LABEL_STUDIO_API_KEY=...
python examples/1_make_dataset.py --prompts ml_backend/demo/data/prompts.txt --limit 100 --model gpt2
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Annotated

import typer
from answers import DEMO_MODEL, answer_pairs
from label_studio_sdk import LabelStudio

LABEL_CONFIG = Path(__file__).parent.parent / "label_configs" / "pairwise.xml"


def main(
    prompts: Annotated[Path, typer.Option(help="Text file, one prompt per line.")],
    title: Annotated[str, typer.Option(help="Title of the new project.")] = "Which answer is better?",
    model: Annotated[str, typer.Option(help="A folder, or a name on the Hugging Face hub such as gpt2.")] = DEMO_MODEL,
    limit: Annotated[int, typer.Option(help="How many of the prompts to use, drawn at random.")] = 100,
    seed: Annotated[int, typer.Option(help="The same seed gives the same answers.")] = 0,
) -> None:
    """Create a dataset to rank: a Label Studio project with two sampled answers to each prompt."""
    url = os.environ.get("LABEL_STUDIO_URL", "http://localhost:8080")
    label_studio = LabelStudio(base_url=url, api_key=os.environ["LABEL_STUDIO_API_KEY"])

    questions = [line.strip() for line in prompts.read_text(encoding="utf-8").splitlines() if line.strip()]
    random.Random(seed).shuffle(questions)  # noqa: S311  # a fair sample of the file, not a secret
    questions = questions[:limit]
    typer.echo(f"Sampling two answers to each of {len(questions)} prompts ...")
    tasks = [
        {"prompt": prompt, "answer1": first, "answer2": second}
        for prompt, (first, second) in zip(questions, answer_pairs(model, questions, seed), strict=True)
        if first and second and first != second  # otherwise there is nothing to choose between
    ]

    project = label_studio.projects.create(title=title, label_config=LABEL_CONFIG.read_text(encoding="utf-8"))
    label_studio.projects.import_tasks(project.id, request=tasks)
    typer.echo(f"{len(tasks)} pairs wait in project {project.id}: {url}/projects/{project.id}/data")
    typer.echo(f"Once you have ranked some: python examples/2_fetch_labels.py --project {project.id}")


if __name__ == "__main__":
    typer.run(main)
