"""How much a reward model learns from few judgements: ours, a plain probe, training the top layers alone, and TRL's.

Each row is a base model with pairs that have a winner: the demo's taste; with `--real-model FOLDER`, that model's own
answers under two tastes (the more positive one, by the package `vaderSentiment`, and the easier to read); with
`--preferences FILE` too, what people preferred. From each, N pairs are learned and the pairs on other prompts ranked.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import report
from benchmarks.contestant import ROOT
from benchmarks.curves import plot_preferences
from benchmarks.learned import MODEL, Material, interval
from benchmarks.learners import LEARNERS, Row, learn, row_of
from benchmarks.real_pairs import REAL_SAMPLING, answers_of, judged, positive, reading_ease, real_prompts
from benchmarks.turns import threads
from training.config import CycleConfig
from training.data import Preference, Split, read_preferences, split_of
from training.models import TextCodec, load_causal_lm

SIZES = (50, 100, 200)
FEWEST_HELD_OUT = 40


def demo_row(folder: Path) -> Row:
    """The demo model's answers, judged by the demo's annotator."""
    material = Material(folder)
    pairs = [Preference(**pair) for pair in (*material.pairs, *material.held_out_pairs)]
    return row_of("demo taste", MODEL, material.base, material.codec, pairs, material.config.reward)


def real_rows(model: str, file: Path | None) -> list[Row]:
    """The rows of a real model."""
    base, config = load_causal_lm(model, "cpu"), CycleConfig.for_model(model)
    codec = TextCodec.load(model, config.text)
    rows = []
    answers = answers_of(base, codec, real_prompts(), REAL_SAMPLING)
    for name, taste in (("sentiment", positive()), ("reading ease", reading_ease)):
        rows.append(row_of(name, model, base, codec, [judged(*item, taste) for item in answers], config.reward))
    if file is not None:
        rows.append(row_of(file.stem, model, base, codec, list(read_preferences(file)), config.reward))
    return rows


def learners(row: Row, size: int | None) -> tuple[str, ...]:
    """Who learns from so many pairs: TRL takes minutes on a real model, so there it learns from the most alone."""
    return LEARNERS if row.model == MODEL or size == SIZES[-1] else LEARNERS[:-1]


def _splits(row: Row, size: int | None, seed: int) -> tuple[Tensor, Tensor] | None:
    """Pairs to learn from and pairs on other prompts, None if there are too few for that size.

    None of the former is in the test part, which reward training would set aside.
    """
    prompts = sorted({str(pair.prompt) for pair in row.pairs})
    random.Random(seed).shuffle(prompts)
    held = set(prompts[: max(FEWEST_HELD_OUT, len(prompts) // 4)])
    inside = torch.tensor([str(pair.prompt) in held for pair in row.pairs])
    free = [
        index for index, pair in enumerate(row.pairs) if not inside[index] and split_of(pair.prompt) is not Split.TEST
    ]
    random.Random(seed).shuffle(free)
    if size is not None and len(free) < size:
        return None
    return torch.tensor(free[:size]), inside.nonzero().flatten()


def main() -> None:
    """Measure every row, and write figures, the plot and a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5, help="splits of each row")
    parser.add_argument("--real-model", help="a chat model's folder, for rows of its own answers")
    parser.add_argument("--preferences", type=Path, help="a preference file, for a row of the real model")
    options = parser.parse_args()
    torch.set_num_threads(threads())
    found: dict[str, dict[str, dict[str, list[tuple[float, float]]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        rows = [demo_row(Path(folder))]
        rows += real_rows(options.real_model, options.preferences) if options.real_model else []
        for row in rows:
            for size in (*SIZES, None):
                for seed in range(options.seeds):
                    if (split := _splits(row, size, seed)) is None:
                        continue
                    for learner in learners(row, size):
                        result = learn(row, learner, *split, seed)
                        by_size = found.setdefault(row.name, {}).setdefault(str(size or "all"), {})
                        by_size.setdefault(learner, []).append(result)
                        print(f"preferences: {row.name}, {size or 'all'}, {learner}: {result[0]:.3f}", flush=True)
            write(found)


def write(found: dict[str, dict[str, dict[str, list[tuple[float, float]]]]]) -> None:
    """Save the plot, the figures and a table, after every row."""
    plot_preferences(found, ROOT / "docs" / "images")
    lines = [
        "## What is learned from few judgements\n",
        "Share of pairs on other prompts that are ranked correctly, mean ± 95% interval over splits, and seconds of "
        "training with the base's pass. `tuning` trains the top layers alone, from zero; `trl` is TRL's RewardTrainer "
        "with its default settings, which trains all layers, in float32.\n",
        "| pairs | N | " + " | ".join(LEARNERS) + " |\n|---|---|" + "---|" * len(LEARNERS),
    ]
    flat: dict[str, Any] = {}
    for name, by_size in found.items():
        for size, by_learner in by_size.items():
            cells = []
            for learner in LEARNERS:
                if (results := by_learner.get(learner)) is None:
                    cells.append("")
                    continue
                mean, reach = interval([accuracy for accuracy, _ in results])
                cells.append(f"{mean:.1%} ± {reach:.1%}, {statistics.mean(s for _, s in results):.1f} s")
                key = {"demo taste": "demo", "sentiment": "real"}.get(name, re.sub(r"\W+", "_", name))
                flat["_".join(["accuracy", *([] if learner == "ours" else [learner]), key, size])] = mean
            lines.append(f"| {name} | {size} | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n\n![Accuracy over judgements](images/preferences.png)\n"
    details = {"preferences": {"found": json.loads(json.dumps(found)), "text": text, **report.circumstances()}}
    report.merge({**flat, "details": details})


if __name__ == "__main__":
    main()
