"""What the KL buys: preferred share over KL for each algorithm and for best-of-n.

All learn from the same judgements of a simulated annotator: one reward model for each seed, and DPO from the pairs
themselves. The annotator, who judges without noise, then compares answers to unseen prompts with the base's. The model
is the demo's, or with `--real-model FOLDER` a chat model, as `rankloop demo` trains them. `--algorithms` and `--seeds`
shorten a run; `--looks` says how often a policy is looked at on its way.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.frontier_page import Look, write
from benchmarks.learned import Material
from benchmarks.real_material import RealMaterial
from benchmarks.turns import threads
from training.data import Preference, PromptRecord
from training.errors import DivergedError
from training.evaluation import best_of_n_kl, best_of_n_weights, distinct_share, similarity
from training.models import RewardModel
from training.objectives import kl_k1
from training.ppo import PPOTrainer, Start
from training.reward import train_reward
from training.sampling import Sampler, Samples, respond, score_samples

ALGORITHMS = ("ppo", "rloo", "reinforce", "best-of-n", "dpo")
_ANSWERS = 4  # to each held-out prompt


class Taste:
    """The annotator, and the base's answers to the held-out prompts that others are compared with."""

    def __init__(self, material: Material | RealMaterial) -> None:
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
        judged = [self._material.prefer(prompt, own, theirs[place % _ANSWERS]) for place, own in enumerate(texts)]
        return judged.count("1"), judged.count("2")

    def look(self, policy: Any, judge: RewardModel, iteration: int) -> Look:
        """Measure a policy."""
        samples = self.sample(policy.language_model, seed=1000, answers=_ANSWERS)
        repeated = [prompt for prompt in self.ids for _ in range(_ANSWERS)]
        eos, temperature = self._material.codec.eos_id, self._material.config.ppo.sampling.temperature
        rollout = respond(policy, judge, repeated, samples, eos_id=eos, temperature=temperature, batch=32)
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


def reward_model(material: Material | RealMaterial, folder: Path, seed: int) -> RewardModel:
    """A reward model trained on the judgements with this seed."""
    out = folder / f"reward-{seed}"
    pairs = [Preference(**pair) for pair in material.pairs]
    train_reward(material.base, material.codec, pairs, material.config.reward.model_copy(update={"seed": seed}), out)
    return RewardModel.load(out, material.base)


def train(
    material: Material | RealMaterial, taste: Taste, judge: RewardModel, algorithm: str, seed: int, looks: int
) -> list[Look]:
    """Train with the demo's settings, and look at the policy so many times; the last good one if it broke a bound."""
    config = settings(material, algorithm).model_copy(update={"seed": seed})
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


def settings(material: Material | RealMaterial, algorithm: str) -> Any:
    """The demo's settings of an algorithm; `rloo` asks fewer prompts, for as many answers in an iteration."""
    own = material.config.ppo
    sampled = own.prompts_per_iteration * own.answers
    plain = own.model_copy(update={"algorithm": algorithm, "answers_per_prompt": None})
    return plain.model_copy(
        update={"prompts_per_iteration": sampled // plain.answers if algorithm == "rloo" else sampled}
    )


def best_of_n(material: Material | RealMaterial, taste: Taste, judge: RewardModel) -> dict[int, tuple[float, float]]:
    """For each n, KL and preferred share of the best of n answers of the base by this reward model."""
    pool = material.pool
    samples = taste.sample(material.base, seed=77, answers=pool)
    texts = taste.texts(samples)
    repeated = [prompt for prompt in taste.ids for _ in range(pool)]
    scores = score_samples(judge, material.codec, repeated, samples, batch=32)[0].view(-1, pool)
    order = scores.argsort(dim=1, descending=True)
    outcomes = torch.tensor(
        [
            [taste.wins_and_losses([texts[row * pool + place]], row) for place in places]
            for row, places in enumerate(order.tolist())
        ],
        dtype=torch.float64,
    )
    found = {}
    for n in (2**power for power in range(pool.bit_length())):
        wins, losses = (outcomes * best_of_n_weights(pool, n)[None, :, None]).sum(dim=(0, 1)).tolist()
        found[n] = (best_of_n_kl(n), wins / (wins + losses))
    return found


def main() -> None:
    """Train with each seed and algorithm; write figures, plot and table after each seed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--looks", type=int, default=4)
    parser.add_argument("--algorithms", nargs="+", choices=ALGORITHMS, default=ALGORITHMS)
    parser.add_argument("--real-model", help="a chat model's folder, in place of the demo model")
    options = parser.parse_args()
    torch.set_num_threads(threads())
    found: dict[str, list[list[Look]]] = {name: [] for name in options.algorithms}
    pools: list[dict[int, tuple[float, float]]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        material = RealMaterial(options.real_model) if options.real_model else Material(folder)
        taste = Taste(material)
        for seed in range(options.seeds):
            judge = reward_model(material, folder, seed)
            pools.append(best_of_n(material, taste, judge))
            print(f"frontier: seed {seed}, best of n {pools[-1]}", flush=True)
            for name in options.algorithms:
                found[name].append(train(material, taste, judge, name, seed, options.looks))
                print(f"frontier: seed {seed}, {name} {found[name][-1][-1]}", flush=True)
            write(found, pools, len(material.pairs), real=bool(options.real_model))


if __name__ == "__main__":
    main()
