"""Train a reward model and a better policy on the preferences, and use both in the project.

python examples/3_train_and_feed_back.py --project 1 --preferences preferences.jsonl --model gpt2
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from answers import DEMO_MODEL, answer_pairs
from label_studio_sdk import ImportApiRequest, LabelStudio, PredictionRequest

from ml_backend.labels import pairwise_prediction, parse_label_config
from training.models import RewardModel, TextCodec, load_causal_lm


def train(*arguments: object) -> None:
    """Run one stage; an interrupted stage resumes, and a finished one isn't repeated."""
    subprocess.run([sys.executable, "-m", "training", *map(str, arguments)], check=True)  # noqa: S603


def main(
    project: Annotated[int, typer.Option(help="The project's id.")],
    preferences: Annotated[Path, typer.Option(help="What 2_fetch_labels.py wrote.")] = Path("preferences.jsonl"),
    model: Annotated[str, typer.Option(help="The base model: the one that wrote the answers.")] = DEMO_MODEL,
    out: Annotated[Path, typer.Option(help="Folder for what is trained.")] = Path("trained"),
    config: Annotated[Path | None, typer.Option(help="JSON file of training settings.")] = None,
    fresh: Annotated[int, typer.Option(help="Pairs of the better policy's answers to add for ranking.")] = 20,
) -> None:
    """Train a reward model and a better policy on the preferences, and use both in the project."""
    url = os.environ.get("LABEL_STUDIO_URL", "http://localhost:8080")
    label_studio = LabelStudio(base_url=url, api_key=os.environ["LABEL_STUDIO_API_KEY"])
    label_config = parse_label_config(label_studio.projects.get(project).label_config or "")
    settings = ["--config", config] if config else []

    train("reward", "--model", model, "--preferences", preferences, "--out", out / "reward", *settings)
    judge = ["--model", model, "--reward-model", out / "reward"]
    train("ppo", *judge, "--prompts", preferences, "--out", out / "ppo", *settings)

    # Unranked pairs get the reward model's choice as a prediction, with its probability as the score.
    listed = label_studio.tasks.list(project=project, fields="all")
    tasks = [task for task in listed if not task.total_annotations and not task.cancelled_annotations]
    reward_model = RewardModel.load(out / "reward", load_causal_lm(model))
    codec = TextCodec.load(model)
    opinions = []
    for task in tasks:
        prompt, answers = task.data["prompt"], [task.data["answer1"], task.data["answer2"]]
        first, second = reward_model.score_texts(codec, [prompt] * 2, answers).tolist()
        probability = reward_model.preference_probability(first - second)
        side, sure = ("left", probability) if probability >= 0.5 else ("right", 1 - probability)
        opinion = pairwise_prediction(label_config, side, sure, version="reward-model")
        opinions.append(PredictionRequest(task=task.id, **opinion))
    if opinions:
        label_studio.projects.import_predictions(project, request=opinions)

    # The better policy answers the same prompts, for the next round of ranking.
    prompts = [task.data["prompt"] for task in tasks][:fresh]
    pairs = answer_pairs(str(out / "ppo" / "policy"), prompts, seed=1)
    rows = [{"prompt": p, "answer1": a, "answer2": b} for p, (a, b) in zip(prompts, pairs, strict=True) if a and b]
    if rows:
        label_studio.projects.import_tasks(project, request=[ImportApiRequest(data=row) for row in rows])
    typer.echo(f"Added predictions for {len(opinions)} unranked pairs, and {len(rows)} pairs of new answers.")


if __name__ == "__main__":
    typer.run(main)
