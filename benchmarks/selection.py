"""How many judgements a reward model needs, by how the pairs that people judge are chosen from several candidates.

A pool of the base's answers to every prompt is drawn once. Then a simulated person judges pairs in rounds: each round's
pairs are chosen by the reward model of the rounds before (the first round's are random), a fifth of them at random all
the same. After each round the reward model, the same for every way of choosing, ranks random pairs on held-out prompts,
and picks the best of n answers to them, which the person without noise compares with another answer.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from benchmarks import report
from benchmarks.contestant import ROOT
from benchmarks.curves import plot_selection
from benchmarks.learned import DATA, MODEL, interval
from benchmarks.real_pairs import positive, real_prompts
from benchmarks.turns import threads
from ml_backend.demo import prefer_useful
from ml_backend.serving import choose_pair
from ml_backend.settings import Selection
from training.config import CycleConfig, SamplingConfig
from training.data import Preference
from training.models import RewardModel, TextCodec, load_causal_lm
from training.reward import (
    FittedProbes,
    PairFeatures,
    candidate_sites,
    fit_ensemble,
    folds_of,
    pair_features,
    probe_depths,
)
from training.sampling import Sampler

SELECTIONS: tuple[Selection, ...] = get_args(Selection)
CANDIDATES, REAL_CANDIDATES = 6, 4
ROUND, REAL_HELD_OUT = 40, 80
NOISES = (0.1, 0.3)
_SEED = 4_000_000
_FOLDS = 3

Taste = Callable[[str, str, str], str]
"""Which of two answers to a prompt is better: "1", "2" or "tie"."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Candidates of a base model for prompts to judge, and for held-out ones.

    places: (P, C) long, where the activations of each of C candidates are.
    judged: how many of the prompts, the first ones, are judged; the others are held out.
    """

    prompts: list[str]
    texts: list[list[str]]
    features: PairFeatures
    places: Tensor
    judged: int


def pool_of(
    model: str, prompts: Sequence[str], judged: int, count: int, sampling: SamplingConfig | None = None
) -> Pool:
    """Sample `count` candidates to each prompt, and compute what a probe reads of them."""
    config, base = CycleConfig.for_model(model), load_causal_lm(model, "cpu")
    codec = TextCodec.load(model, config.text)
    sampler = Sampler(base, end_ids=codec.end_ids, pad_id=codec.pad_id)
    texts = []
    for start in range(0, len(prompts), 32):
        part = list(prompts[start : start + 32])
        seeds = range(_SEED + count * start, _SEED + count * (start + len(part)))
        drawn = sampler.sample(
            codec.encode_prompts(part), sampling or config.sampling, seeds=seeds, answers_per_prompt=count
        )
        found = [codec.decode_answer(row) for row in drawn.answers()]
        texts += [found[row * count : (row + 1) * count] for row in range(len(part))]
    pairs = [
        Preference(prompt, answers[place], answers[place + 1])
        for prompt, answers in zip(prompts, texts, strict=True)
        for place in range(0, count, 2)
    ]
    reader = RewardModel.on_base(base, config.reward.frozen_share)
    depths = probe_depths(reader.base.n_layers, config.reward.probe_depths)
    features = pair_features(reader, codec, pairs, depths, keep_trunk=False)
    return Pool(list(prompts), texts, features, features.places.view(len(prompts), count), judged)


def simulate(pool: Pool, taste: Taste, noise: float, selection: Selection, seed: int, rounds: int) -> list[Any]:
    """Judge in rounds; returns (judgements, accuracy, share of best of n preferred) after each."""
    dice = random.Random(f"{seed} {noise}")
    order = dice.sample(range(pool.judged), pool.judged)
    pairs: list[tuple[int, int, int]] = []  # prompt, place of the chosen, place of the rejected
    shares: list[float] = []
    found, scores, looks = None, None, []
    for start in range(0, rounds * ROUND, ROUND):
        for row in order[start : start + ROUND]:
            own = random.Random(f"{seed} {row}")
            picked = choose_pair(pool.texts[row], scores[row].tolist() if scores is not None else [], selection, own)
            if picked is None:
                continue
            first, second, _ = picked
            verdict = taste(pool.prompts[row], pool.texts[row][first], pool.texts[row][second])
            if own.random() < noise:
                verdict = {"1": "2", "2": "1"}.get(verdict, own.choice("12"))
            pairs.append((row, first, second) if verdict != "2" else (row, second, first))
            shares.append(0.5 if verdict == "tie" else 1.0)
        found = _fitted(pool, pairs, shares, seed)
        scores = _scores(pool, found)
        looks.append((len(pairs), *_measured(pool, scores, taste)))
    return looks


def _fitted(pool: Pool, pairs: list[tuple[int, int, int]], shares: list[float], seed: int) -> FittedProbes:
    places = torch.stack([pool.places[row][[first, second]] for row, first, second in pairs])
    features = replace(pool.features, places=places)
    preferences = [Preference(pool.prompts[row], pool.texts[row][a], pool.texts[row][b]) for row, a, b in pairs]
    return fit_ensemble(
        features.differences,
        candidate_sites(features.depths)[-1:],  # one family and few parts, since hundreds of models are fitted
        torch.tensor(shares),
        torch.ones(len(shares)),
        folds_of(preferences, _FOLDS, seed),
    )


def _scores(pool: Pool, found: FittedProbes) -> Tensor:
    """The ensemble's scores (P, C), from that of each prompt's first candidate."""
    first = pool.places[:, :1].expand_as(pool.places)
    features = replace(pool.features, places=torch.stack([pool.places, first], dim=2).view(-1, 2))
    rows = torch.arange(len(features.places))
    each = [member.scores(features.differences, rows) for member in found.members]
    return torch.stack(each).mean(dim=0).view(pool.places.shape)


def _measured(pool: Pool, scores: Tensor, taste: Taste) -> tuple[float, float]:
    """Accuracy on the held-out prompts' random pairs; how often the best of n is preferred to one more answer."""
    right, best = [], []
    for row in range(pool.judged, len(pool.prompts)):
        prompt, texts, own = pool.prompts[row], pool.texts[row], scores[row]
        for first in range(0, len(texts), 2):
            verdict = taste(prompt, texts[first], texts[first + 1])
            if verdict != "tie":
                right.append((own[first] > own[first + 1]) == (verdict == "1"))
        verdict = taste(prompt, texts[1 + int(own[1:].argmax())], texts[0])
        if verdict != "tie":
            best.append(verdict == "1")
    return float(sum(right)) / len(right), sum(best) / max(1, len(best))


def needed(looks: Sequence[tuple[float, float]], level: float) -> float:
    """How many judgements reach an accuracy, by interpolation between (judgements, accuracy); infinite if none do."""
    before = (0.0, 0.5)
    for point in looks:
        if point[1] >= level:
            return before[0] + (level - before[1]) / max(1e-9, point[1] - before[1]) * (point[0] - before[0])
        before = point
    return float("inf")


def shorter(_prompt: str, one: str, other: str) -> str:
    """The answer with fewer words, a tie if they have as many; one that says nothing loses."""
    first, second = (len(text.split()) or 10**6 for text in (one, other))
    return "tie" if first == second else "1" if first < second else "2"


def more_positive(_prompt: str, one: str, other: str, score: Callable[[str], float]) -> str:
    """The more positive answer."""
    first, second = score(one), score(other)
    return "tie" if first == second else "1" if first > second else "2"


def main() -> None:
    """Simulate every row, and write figures, the plot and the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5, help=f"of {ROUND} judgements")
    parser.add_argument("--real-model", help="a chat model's folder, for rows of its own answers")
    parser.add_argument("--pools", type=Path, help="where pools of answers are kept between runs")
    options = parser.parse_args()
    torch.set_num_threads(threads())
    with tempfile.TemporaryDirectory() as folder:
        place = options.pools or Path(folder)
        rows: list[tuple[str, Pool, Taste]] = []
        demo = _kept(place / "demo.pt", lambda: _demo_pool(options.rounds * ROUND))
        rows += [("demo, useful", demo, prefer_useful), ("demo, shorter", demo, shorter)]
        if options.real_model:
            real = _kept(place / "real.pt", lambda: _real_pool(options.real_model, options.rounds * ROUND))
            score = positive()
            rows.append(("SmolLM2, sentiment", real, lambda prompt, a, b: more_positive(prompt, a, b, score)))
    found: dict[str, dict[str, list[Any]]] = {}
    for name, pool, taste in rows:
        for noise in NOISES:
            label = f"{name}, {noise:.0%} noise"
            for seed in range(options.seeds):
                for selection in SELECTIONS:
                    looks = simulate(pool, taste, noise, selection, seed, options.rounds)
                    found.setdefault(label, {}).setdefault(selection, []).append(looks)
                    print(f"selection: {label}, seed {seed}, {selection}: {looks[-1]}", flush=True)
            write(found, options.seeds)


def _demo_pool(judged: int) -> Pool:
    lines = [(DATA / name).read_text(encoding="utf-8").split("\n") for name in ("prompts.txt", "held_out_prompts.txt")]
    prompts, held_out = ([line for line in part if line.strip()] for part in lines)
    return pool_of(MODEL, [*prompts[:judged], *held_out], min(judged, len(prompts)), CANDIDATES)


def _real_pool(model: str, judged: int) -> Pool:
    prompts = random.Random(0).sample(real_prompts(), len(real_prompts()))
    sampling = SamplingConfig(top_k=0, top_p=1.0, temperature=0.7, max_new_tokens=48)
    return pool_of(model, prompts[: judged + REAL_HELD_OUT], judged, REAL_CANDIDATES, sampling)


def _kept(path: Path, make: Callable[[], Pool]) -> Pool:
    """A pool that was kept, or a new one."""
    if path.exists():
        kept: Pool = torch.load(path, weights_only=False)
        return kept
    pool = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(pool, path)
    return pool


def write(found: dict[str, dict[str, list[Any]]], seeds: int) -> None:
    """Save the plot, the figures and a table, after every row."""
    plot_selection(found, ROOT / "docs" / "images")
    lines = [
        "| | pairs | accuracy after 80 | after all | best of n preferred | judgements for what random has after all |",
        "|---|---|---|---|---|---|",
    ]
    flat = {}
    for label, by_selection in found.items():
        last = len(by_selection["random"][0]) - 1
        level = statistics.mean(looks[last][1] for looks in by_selection["random"])
        for selection, runs in by_selection.items():
            cells = [
                _interval([looks[place][column] for looks in runs]) for place, column in ((1, 1), (last, 1), (last, 2))
            ]
            mean = [
                (statistics.mean(run[k][0] for run in runs), statistics.mean(run[k][1] for run in runs))
                for k in range(last + 1)
            ]
            count = needed(mean, level)
            cells.append(f"{count:.0f}" if count < float("inf") else "more")
            lines.append(f"| {label} | `{selection}` | {' | '.join(cells)} |")
            flat[f"selection_{label}_{selection}".replace(",", "").replace(" ", "_").replace("%", "")] = mean[-1][1]
    text = "\n".join(["## Which pairs to ask about\n", f"{seeds} seeds, mean ± 95% interval over seeds.\n", *lines, ""])
    print("\n".join(lines), flush=True)
    report.merge({**flat, "details": {"selection": {"found": found, "text": text, **report.circumstances()}}})


def _interval(values: list[float]) -> str:
    mean, reach = interval(values)
    return f"{mean:.1%} ± {reach:.1%}" if reach == reach else f"{mean:.1%}"


if __name__ == "__main__":
    main()
