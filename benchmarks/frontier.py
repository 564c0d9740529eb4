"""What the KL buys: preferred share over KL for each algorithm and for best-of-n, on the demo model.

All learn from the same judgements of the demo's simulated annotator: one reward model for each seed, and DPO from the
pairs themselves. The annotator, who judges without noise, then compares answers to unseen prompts with the base's.
`--algorithms` and `--seeds` shorten a run; `--looks` says how often a policy is looked at on its way.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import report
from benchmarks.contestant import ROOT
from benchmarks.curves import plot_frontier
from benchmarks.learned import MODEL, Material, interval
from benchmarks.turns import threads
from ml_backend.demo import prefer_useful
from training.config import CycleConfig
from training.data import Preference, PromptRecord
from training.errors import DivergedError
from training.evaluation import best_of_n_kl, best_of_n_weights, distinct_share, similarity
from training.models import RewardModel
from training.objectives import kl_k1
from training.ppo import PPOTrainer, Start
from training.reward import train_reward
from training.sampling import Sampler, Samples, respond, score_samples

ALGORITHMS = ("ppo", "rloo", "reinforce", "best-of-n", "dpo")
AT_NATS = 5.0
_ANSWERS = 4  # to each held-out prompt
_POOL = 64


@dataclass(frozen=True, slots=True)
class Look:
    """A policy on its way: `share` is wins / (wins + losses) against the base, the rest as in a policy's report."""

    iteration: int
    share: float
    kl_nats: float
    similarity: float
    distinct_2: float
    entropy_nats: float
    answer_tokens: float


class Taste:
    """The annotator, and the base's answers to the held-out prompts that others are compared with."""

    def __init__(self, material: Material) -> None:
        self._material = material
        self.ids = material.codec.encode_prompts(material.held_out)
        self._theirs = self.texts(self.sample(material.base, seed=3, answers=_ANSWERS))

    def sample(self, model: Any, seed: int, answers: int) -> Samples:
        """So many answers to every held-out prompt."""
        codec = self._material.codec
        sampler = Sampler(model, end_ids=codec.end_ids, pad_id=codec.pad_id)
        seeds = range(seed * 1_000_000, seed * 1_000_000 + len(self.ids) * answers)
        sampling = self._material.config.ppo.sampling
        return sampler.sample(self.ids, sampling, seeds=seeds, answers_per_prompt=answers)

    def texts(self, samples: Samples) -> list[str]:
        """What people would read."""
        return [self._material.codec.decode_answer(row) for row in samples.answers()]

    def wins_and_losses(self, texts: Sequence[str], row: int) -> tuple[float, float]:
        """How many of some answers to prompt number `row` beat one of the base's, and how many lose."""
        theirs = self._theirs[row * _ANSWERS : (row + 1) * _ANSWERS]
        prompt = self._material.held_out[row]
        judged = [prefer_useful(prompt, own, theirs[place % _ANSWERS]) for place, own in enumerate(texts)]
        return judged.count("1"), judged.count("2")

    def look(self, policy: Any, judge: RewardModel, iteration: int) -> Look:
        """Measure a policy."""
        samples = self.sample(policy.language_model, seed=1000, answers=_ANSWERS)
        repeated = [prompt for prompt in self.ids for _ in range(_ANSWERS)]
        eos = self._material.codec.eos_id
        rollout = respond(policy, judge, repeated, samples, eos_id=eos, temperature=1.0, batch=64)
        texts = self.texts(samples)
        counts = [
            self.wins_and_losses(texts[row * _ANSWERS : (row + 1) * _ANSWERS], row) for row in range(len(self.ids))
        ]
        wins, losses = (sum(column) for column in zip(*counts, strict=True))
        firsts = samples.rows(torch.arange(0, len(samples), _ANSWERS))
        return Look(
            iteration=iteration,
            share=wins / max(1.0, wins + losses),
            kl_nats=float(kl_k1(rollout.logprobs, rollout.reference_logprobs, rollout.answer_mask).mean()),
            similarity=similarity(firsts.answers()) or 0.0,
            distinct_2=distinct_share(firsts.tokens, firsts.mask, 2),
            entropy_nats=float(rollout.entropies.sum() / rollout.answer_mask.sum()),
            answer_tokens=float(samples.mask.sum(dim=1).float().mean()),
        )


def reward_model(material: Material, folder: Path, seed: int) -> RewardModel:
    """A reward model trained on the judgements with this seed."""
    out = folder / f"reward-{seed}"
    pairs = [Preference(**pair) for pair in material.pairs]
    train_reward(material.base, material.codec, pairs, material.config.reward.model_copy(update={"seed": seed}), out)
    return RewardModel.load(out, material.base)


def train(material: Material, taste: Taste, judge: RewardModel, algorithm: str, seed: int, looks: int) -> list[Look]:
    """Train with the demo's settings, and look at the policy so many times; the last good one if it broke a bound."""
    config = settings(algorithm).model_copy(update={"seed": seed})
    prompts = [PromptRecord(prompt) for prompt in material.prompts]
    pairs = [Preference(**pair) for pair in material.pairs]
    trainer = PPOTrainer(material.base, Start(), material.codec, judge, prompts, config, pairs)
    trainer.measure_baseline()
    found: list[Look] = []
    every = math.ceil(config.iterations / looks)
    while trainer.state.iteration < config.iterations and trainer.state.stopped is None:
        try:
            trainer.iterate()
        except DivergedError as error:
            trainer.go_back(str(error))
        done = trainer.state.iteration
        if done % every == 0 or done == config.iterations or trainer.state.stopped:
            found.append(taste.look(trainer.policy, trainer.reward_model, done))
    return found


def settings(algorithm: str) -> Any:
    """The demo's settings of an algorithm."""
    own = CycleConfig.for_model(MODEL).ppo
    answers = own.model_copy(update={"algorithm": algorithm, "answers_per_prompt": None}).answers
    changes: dict[str, Any] = {"algorithm": algorithm, "answers_per_prompt": None}
    if algorithm == "rloo":
        changes["prompts_per_iteration"] = own.prompts_per_iteration // answers
    return own.model_copy(update=changes)


def best_of_n(material: Material, taste: Taste, judge: RewardModel) -> dict[int, tuple[float, float]]:
    """For each n, KL and preferred share of the best of n answers of the base by this reward model."""
    samples = taste.sample(material.base, seed=77, answers=_POOL)
    texts = taste.texts(samples)
    repeated = [prompt for prompt in taste.ids for _ in range(_POOL)]
    scores = score_samples(judge, material.codec, repeated, samples, batch=64)[0].view(-1, _POOL)
    order = scores.argsort(dim=1, descending=True)
    outcomes = torch.tensor(
        [
            [taste.wins_and_losses([texts[row * _POOL + place]], row) for place in places]
            for row, places in enumerate(order.tolist())
        ],
        dtype=torch.float64,
    )
    found = {}
    for n in (2**power for power in range(_POOL.bit_length())):
        wins, losses = (outcomes * best_of_n_weights(_POOL, n)[None, :, None]).sum(dim=(0, 1)).tolist()
        found[n] = (best_of_n_kl(n), wins / (wins + losses))
    return found


def share_at(points: Sequence[tuple[float, float]], nats: float) -> float:
    """The share at this KL by linear interpolation between (KL, share), from the base's (0, 0.5); the last beyond."""
    before = (0.0, 0.5)
    for point in sorted(points):
        if point[0] >= nats:
            part = (nats - before[0]) / max(1e-9, point[0] - before[0])
            return before[1] + part * (point[1] - before[1])
        before = point
    return before[1]


def main() -> None:
    """Train with each seed and algorithm; write figures, plot and table after each seed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--looks", type=int, default=4)
    parser.add_argument("--algorithms", nargs="+", choices=ALGORITHMS, default=ALGORITHMS)
    options = parser.parse_args()
    torch.set_num_threads(threads())
    found: dict[str, list[list[Look]]] = {name: [] for name in options.algorithms}
    pools: list[dict[int, tuple[float, float]]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        material = Material(folder)
        taste = Taste(material)
        for seed in range(options.seeds):
            judge = reward_model(material, folder, seed)
            pools.append(best_of_n(material, taste, judge))
            print(f"frontier: seed {seed}, best of n {pools[-1]}", flush=True)
            for name in options.algorithms:
                found[name].append(train(material, taste, judge, name, seed, options.looks))
                print(f"frontier: seed {seed}, {name} {found[name][-1][-1]}", flush=True)
            write(found, pools, len(material.pairs))


def write(found: dict[str, list[list[Look]]], pools: list[dict[int, tuple[float, float]]], pairs: int) -> None:
    """Save plot, figures and table."""
    at = {
        name: [share_at([(look.kl_nats, look.share) for look in looks], AT_NATS) for looks in runs]
        for name, runs in found.items()
    }
    sampled = [share_at(list(pool.values()), AT_NATS) for pool in pools]
    plot_frontier(found, pools, ROOT / "docs" / "images")
    lines = [
        f"## What the KL buys\n\nOn the demo model, {len(pools)} seeds, {pairs} pairs with a winner; shares are wins / "
        "(wins + losses) against the base on held-out prompts, by the annotator, mean ± 95% interval over seeds.\n",
        f"| | share at {AT_NATS:g} nats | at the end: share | KL, nats | answers alike | distinct bigrams | tokens |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, runs in found.items():
        last = [looks[-1] for looks in runs]
        ends = [
            statistics.mean(getattr(look, field) for look in last)
            for field in ("share", "kl_nats", "similarity", "distinct_2", "answer_tokens")
        ]
        cells = f"{ends[0]:.1%} | {ends[1]:.1f} | {ends[2]:.1%} | {ends[3]:.0%} | {ends[4]:.1f}"
        lines.append(f"| `{name}` | {_interval(at[name])} | {cells} |")
    for n in (8, 64):
        nats = pools[0][n][0]
        lines.append(f"| best of {n}, sampled | {_interval([pool[n][1] for pool in pools])} at {nats:.1f} | | | | | |")
    text = "\n".join([*lines, "", "![Preferred share over KL](images/frontier.png)", ""])
    best = max(at, key=lambda name: statistics.mean(at[name]))
    report.merge(
        {
            "frontier_share_at_5_nats": statistics.mean(at.get("ppo", at[best])),
            "frontier_best_share_at_5_nats": statistics.mean(at[best]),
            "frontier_bon_share_at_5_nats": statistics.mean(sampled),
            **{f"frontier_{name.replace('-', '_')}_share_at_5_nats": statistics.mean(at[name]) for name in at},
            "details": {
                "frontier": {
                    "looks": {
                        name: [[asdict(look) for look in looks] for looks in runs] for name, runs in found.items()
                    },
                    "best_of_n": pools,
                    "text": text,
                    **report.circumstances(),
                }
            },
        }
    )


def _interval(values: list[float]) -> str:
    mean, reach = interval(values)
    return f"{mean:.1%}" if math.isnan(reach) else f"{mean:.1%} ± {reach:.1%}"


if __name__ == "__main__":
    main()
