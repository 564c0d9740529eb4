"""How much a reward model learns from few judgements: ours, a plain probe, and training the top layers alone.

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
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import report
from benchmarks.contestant import ROOT
from benchmarks.curves import plot_preferences
from benchmarks.learned import Material, interval
from benchmarks.turns import clock, threads
from training.config import CycleConfig, RewardConfig, SamplingConfig
from training.data import Preference, Split, read_preferences, split_of
from training.models import RewardModel, Site, TextCodec, load_causal_lm
from training.reward import (
    PairFeatures,
    RewardRun,
    candidate_sites,
    fit_ensemble,
    fit_probes,
    folds_of,
    pair_features,
    probe_depths,
    train_epoch,
    train_reward,
    why_not_tune,
)
from training.sampling import Sampler

SIZES = (50, 100, 200)
FEWEST_HELD_OUT = 40
REAL_PROMPTS, REAL_TOKENS = 300, 48
LEARNERS = ("ours", "probe", "tuning")
_FORMS = (
    "Write two sentences about {}.",
    "How do you feel about {}?",
    "Write a short review of {}.",
    "Describe {} to a friend in a short message.",
    "Write a diary entry about {}.",
    "Write a complaint or a compliment about {}.",
)
_TOPICS = [
    "a rainy Monday",
    "the neighbour's dog",
    "a school cafeteria",
    "a long train ride",
    "an old bicycle",
    "the city library",
    "a first job",
    "a broken phone",
    "a birthday party",
    "the winter holidays",
    "a crowded beach",
    "homework",
    "the dentist",
    "a new restaurant",
    "an exam",
    "moving to another town",
    "a football match",
    "traffic jams",
    "a village garden",
    "a late delivery",
    "a grandmother's kitchen",
    "a job interview",
    "the night shift",
    "a camping trip",
    "a noisy hotel",
    "a museum visit",
    "a lost wallet",
    "the first snow",
    "a used car",
    "a piano lesson",
    "the morning news",
    "a power cut",
    "an open-air concert",
    "a garden fence",
    "a wedding speech",
    "a chess club",
    "a spring cleaning",
    "the last bus",
    "a cooking class",
    "a mountain hike",
    "a barking alarm clock",
    "a pen friend",
    "a fishing trip",
    "a tax form",
    "a street market",
    "the swimming pool",
    "a paper map",
    "a summer storm",
    "a group project",
    "a quiet Sunday",
]


@dataclass(frozen=True, slots=True)
class Row:
    """A base model with pairs, and their features."""

    name: str
    base: Any
    codec: TextCodec
    pairs: list[Preference]
    features: PairFeatures
    seconds_per_pair: float
    config: RewardConfig


def row_of(name: str, base: Any, codec: TextCodec, pairs: list[Preference], config: RewardConfig) -> Row:
    """Compute the features of all pairs, once for every learner."""
    reader = RewardModel.on_base(base, config.frozen_share)
    depths = sorted({*probe_depths(reader.base.n_layers, config.probe_depths), reader.base.n_layers // 2})
    start = clock()
    features = pair_features(reader, codec, pairs, depths, keep_trunk=True)
    return Row(name, base, codec, pairs, features, (clock() - start) / len(pairs), config)


def demo_row(folder: Path) -> Row:
    """The demo model's answers, judged by the demo's annotator."""
    material = Material(folder)
    pairs = [Preference(**pair) for pair in (*material.pairs, *material.held_out_pairs)]
    return row_of("demo taste", material.base, material.codec, pairs, material.config.reward)


def real_rows(model: str, file: Path | None) -> list[Row]:
    """The rows of a real model."""
    base, config = load_causal_lm(model, "cpu"), CycleConfig.for_model(model)
    codec = TextCodec.load(model, config.text)
    rows = []
    answers = _answers(base, codec)
    for name, taste in (("sentiment", positive()), ("reading ease", reading_ease)):
        rows.append(row_of(name, base, codec, [_judged(*item, taste) for item in answers], config.reward))
    if file is not None:
        rows.append(row_of(file.stem, base, codec, list(read_preferences(file)), config.reward))
    return rows


def reading_ease(text: str) -> float:
    """Flesch's reading ease, with groups of vowels for syllables; the higher, the easier."""
    words = re.findall(r"[a-zA-Z']+", text)
    sentences = max(1, len(re.findall(r"[.!?]+", text)))
    if not words:
        return -1000.0
    syllables = sum(max(1, len(re.findall(r"[aeiouy]+", word.lower()))) for word in words)
    return 206.835 - 1.015 * len(words) / sentences - 84.6 * syllables / len(words)


def learn(row: Row, learner: str, rows: Tensor, held_out: Tensor, seed: int) -> tuple[float, float]:
    """Accuracy on the pairs `held_out` after learning from those at `rows`, and seconds."""
    features, start = row.features, clock()
    used = replace(features, places=features.places[rows], p_chosen=features.p_chosen[rows], votes=features.votes[rows])
    if learner == "ours":
        scores = _ours(row, rows, held_out, seed)
    elif learner == "probe":
        sites = _middle(row)
        x = features.differences(sites, rows)
        deviation = torch.tensor([x.shape[1] ** 0.5])  # the penalty of scikit-learn's default on standardised features
        weights = fit_probes(x, used.p_chosen, torch.ones(len(rows), 1), deviation)
        scores = (features.differences(sites, held_out) @ weights)[:, 0]
    else:
        scores = _tuned_alone(row, rows, held_out, seed)
    seconds = clock() - start + row.seconds_per_pair * len(rows)
    untied = features.p_chosen[held_out] != 0.5
    return float((scores[untied] > 0).double().mean()), seconds


def _ours(row: Row, rows: Tensor, held_out: Tensor, seed: int) -> Tensor:
    """The whole of reward training where the layers above are tried, else its probes from the features at hand."""
    pairs, config = [row.pairs[index] for index in rows.tolist()], row.config.model_copy(update={"seed": seed})
    reader = RewardModel.on_base(row.base, config.frozen_share)
    if why_not_tune(reader, len(pairs), config) is None:
        with tempfile.TemporaryDirectory() as out:
            train_reward(row.base, row.codec, pairs, config, Path(out))
            model = RewardModel.load(Path(out), row.base)
        asked = [row.pairs[index] for index in held_out.tolist()]
        prompts = [pair.prompt for pair in asked]
        chosen = model.score_texts(row.codec, prompts, [pair.chosen for pair in asked])
        return chosen - model.score_texts(row.codec, prompts, [pair.rejected for pair in asked])
    features = row.features
    found = fit_ensemble(
        lambda sites, index: features.differences(sites, rows[index]),
        candidate_sites(probe_depths(reader.base.n_layers, config.probe_depths)),
        features.p_chosen[rows],
        features.votes[rows],
        folds_of(pairs, config.folds, seed),
    )
    return torch.stack([member.scores(features.differences, held_out) for member in found.members]).mean(dim=0)


def _tuned_alone(row: Row, rows: Tensor, held_out: Tensor, seed: int) -> Tensor:
    """The top layers and their head from zero; the epoch with the lowest loss on a sixth of the pairs is kept."""
    config = row.config.model_copy(update={"seed": seed, "label_smoothing": 0.1})
    run, count = RewardRun.fresh(row.base, config), max(1, len(rows) // 6)
    best, scores = float("inf"), torch.zeros(len(held_out))
    for epoch in range(config.epochs):
        train_epoch(run, row.features, rows[count:], config, epoch)
        found = row.features.top_differences(run.model, rows[:count].tolist())
        loss = float(torch.nn.functional.binary_cross_entropy_with_logits(found, row.features.p_chosen[rows[:count]]))
        if loss < best:
            best, scores = loss, row.features.top_differences(run.model, held_out.tolist())
    return scores


def _middle(row: Row) -> tuple[Site, ...]:
    return (Site(RewardModel.on_base(row.base, 0.7).base.n_layers // 2, "mean"),)


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


def real_prompts() -> list[str]:
    """Prompts for a chat model, whose answers differ in mood and difficulty."""
    return [form.format(topic) for topic in _TOPICS for form in _FORMS]


def _answers(base: Any, codec: TextCodec) -> list[tuple[str, str, str]]:
    """Two answers of a real model to each prompt."""
    prompts = real_prompts()[:REAL_PROMPTS]
    sampler = Sampler(base, eos_id=codec.eos_id, pad_id=codec.pad_id)
    sampling = SamplingConfig(top_k=50, top_p=0.95, max_new_tokens=REAL_TOKENS)
    found = []
    for start in range(0, len(prompts), 25):
        part = prompts[start : start + 25]
        seeds = range(2 * start, 2 * start + 2 * len(part))
        samples = sampler.sample(codec.encode_prompts(part), sampling, seeds=seeds, answers_per_prompt=2)
        texts = [codec.decode_answer(tokens) for tokens in samples.answers()]
        found += list(zip(part, texts[::2], texts[1::2], strict=True))
    return found


def _judged(prompt: str, one: str, other: str, taste: Callable[[str], float]) -> Preference:
    first, second = taste(one), taste(other)
    chosen, rejected = (one, other) if first >= second else (other, one)
    return Preference(prompt, chosen, rejected, 0.5 if first == second else 1.0)


def positive() -> Callable[[str], float]:
    """How positive a text is, from -1 to 1, by VADER's lexicon and rules."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    analyzer = SentimentIntensityAnalyzer()
    return lambda text: float(analyzer.polarity_scores(text)["compound"])


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
                    for learner in LEARNERS:
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
        "training with the base's pass. `tuning` trains the top layers alone, from zero.\n",
        "| pairs | N | " + " | ".join(LEARNERS) + " |\n|---|---|" + "---|" * len(LEARNERS),
    ]
    flat: dict[str, Any] = {}
    for name, by_size in found.items():
        for size, by_learner in by_size.items():
            cells = []
            for learner, results in by_learner.items():
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
