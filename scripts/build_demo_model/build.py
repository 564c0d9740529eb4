"""Rebuilds the demo model from its topics and phrases: corpus, tokenizer, network, training, prompts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))  # this checkout's packages, installed or not

from demo_corpus import Example, ask, write_corpus, write_tips  # noqa: E402 - needs the path above
from demo_network import POSITIONS, new_network, sharpen  # noqa: E402
from demo_tokenizer import train_tokenizer  # noqa: E402

from training.config import TRAINING_CONFIG_FILE  # noqa: E402
from training.data import Split, split_of  # noqa: E402

PACKAGED_SETTINGS = ROOT / "ml_backend" / "demo" / "data" / "model" / TRAINING_CONFIG_FILE
VALIDATION_EXAMPLES = 1000
VOCABULARY = 3072
TEMPERATURE = 0.92  # built into the network: nearly all words are intact, and answers still vary in quality


def build(
    out: Annotated[Path, typer.Option(help="Folder for model/, prompts.txt and held_out_prompts.txt.")],
    examples: Annotated[int, typer.Option(help="Answers to write; about 70% are used for training.")] = 72_000,
    seed: Annotated[int, typer.Option(help="Seed of corpus and initial weights; training has its own.")] = 0,
    work: Annotated[Path | None, typer.Option(help="Folder for corpus and checkpoints.  [default: OUT/work]")] = None,
    corpus_only: Annotated[bool, typer.Option(help="Write the corpus to the work folder and stop.")] = False,
) -> None:
    """Rebuild the demo model.

    Writes a corpus of questions and answers of mixed quality (WORK/corpus.jsonl, with the quality of each answer),
    learns a tokenizer from it, trains a small GPT-2 from scratch with `python -m training sft` in two lessons, and
    writes model and prompts to OUT, laid out as in ml_backend/demo/data. Takes about ten minutes on two cores. An
    interrupted build resumes from its last checkpoint when started again with the same options.

    To look at the texts:  python scripts/build_demo_model/build.py --out /tmp/demo --corpus-only
    """
    work = work or out / "work"
    work.mkdir(parents=True, exist_ok=True)
    corpus = write_corpus(examples, seed)
    _write_lines(work / "corpus.jsonl", (json.dumps(example.row()) for example in corpus))
    typer.echo(f"{len(corpus)} answers in {work / 'corpus.jsonl'}")
    if corpus_only:
        return
    _prepare(corpus, seed, work / "untrained")
    # The model learns which tips belong to which question several times faster from tips alone than from full answers.
    knowing_tips = _teach("tips", write_tips(), work / "untrained", work)
    trained = _teach("answers", corpus, knowing_tips, work)
    _lay_out(trained, out)
    typer.echo(f"model and prompts in {out}")


def _prepare(corpus: list[Example], seed: int, folder: Path) -> None:
    """Write the starting point of training: an untrained model with its tokenizer."""
    tokenizer = train_tokenizer(
        (f"{example.prompt}\n{example.answer}" for example in corpus), vocabulary=VOCABULARY, longest=POSITIONS
    )
    tokenizer.save_pretrained(folder)
    new_network(tokenizer, seed).save_pretrained(folder)


def _teach(lesson: str, examples: list[Example], model: Path, work: Path) -> Path:
    """Train on examples with the settings in `sft_LESSON.json`; returns the folder of the trained model.

    Supervised training uses the project's split of prompts: it learns from the training split and picks its best
    weights on the selection split, for which a thousand answers are plenty.
    """
    learned = [example for example in examples if split_of(example.prompt) is Split.TRAIN]
    checked = [example for example in examples if split_of(example.prompt) is Split.SELECTION][:VALIDATION_EXAMPLES]
    data, out = work / f"{lesson}.jsonl", work / lesson
    _write_lines(
        data, (json.dumps({"prompt": example.prompt, "answer": example.answer}) for example in learned + checked)
    )
    files = {"--model": model, "--data": data, "--out": out, "--config": HERE / f"sft_{lesson}.json"}
    options = [str(part) for name, path in files.items() for part in (name, path.resolve())]
    command = [sys.executable, "-m", "training", "sft", "--from-scratch", *options]
    finished = subprocess.run(command, cwd=ROOT, check=False)  # noqa: S603 - our own program
    if finished.returncode:
        raise typer.Exit(finished.returncode)
    return out / "policy"


def _lay_out(trained: Path, out: Path) -> None:
    """Write model and prompts as the package has them. The cycle's settings are tuned by hand, so they are kept."""
    network = GPT2LMHeadModel.from_pretrained(trained)
    sharpen(network, TEMPERATURE)
    network.save_pretrained(out / "model")
    PreTrainedTokenizerFast.from_pretrained(trained).save_pretrained(out / "model")
    if not (out / "model" / TRAINING_CONFIG_FILE).exists():
        shutil.copy(PACKAGED_SETTINGS, out / "model")
    questions = ask()
    _write_lines(out / "prompts.txt", (question.text for question in questions.labeling))
    _write_lines(out / "held_out_prompts.txt", (question.text for question in questions.held_out))


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    typer.run(build)
