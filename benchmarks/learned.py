"""Learning quality rather than speed: ours and TRL's on the demo model and the same pairs, seed by seed.

Pairs of the demo model's own answers are judged by the demo's simulated annotator. Both reward models learn from them
and rank pairs on unseen prompts; each policy learns from its own reward model, and the annotator compares its answers
with the base's on those prompts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks import report
from benchmarks.contestant import ROOT
from benchmarks.curves import plot_learned
from benchmarks.turns import clock, threads
from ml_backend.demo import prefer_useful
from training.config import CycleConfig, SamplingConfig
from training.data import Preference, PromptRecord, Split, split_of
from training.models import RewardModel, TextCodec, load_causal_lm
from training.ppo import PPOTrainer, Start
from training.reward import train_reward
from training.sampling import Sampler

DATA = ROOT / "ml_backend" / "demo" / "data"
MODEL = str(DATA / "model")
SAMPLING = SamplingConfig(top_k=0, top_p=1.0, max_new_tokens=64)
_LOOKS = 4


class Material:
    """The demo model, its prompts, and pairs of its answers that have a winner."""

    pool = 64  # answers that best-of-n chooses from
    prefer = staticmethod(prefer_useful)

    def __init__(self, folder: Path) -> None:
        self.config = CycleConfig.for_model(MODEL)
        self.base = load_causal_lm(MODEL, "cpu")
        self.codec = TextCodec.load(MODEL, self.config.text)
        self.prompts = [prompt for prompt in _lines("prompts.txt") if split_of(prompt) is not Split.TEST]
        self.held_out = _lines("held_out_prompts.txt")
        self.pairs = self._judged(self.prompts, seed=1)
        self.held_out_pairs = self._judged(self.held_out * 2, seed=2)
        self.base_answers = self.answers(self.base, self.held_out, seed=3)
        for name, what in (
            ("pairs", as_read(self.codec, self.pairs)),
            ("held_out", as_read(self.codec, self.held_out_pairs)),
            ("prompts", self.prompts),
            ("held_out_prompts", self.held_out),
        ):
            (folder / f"{name}.json").write_text(json.dumps(what), encoding="utf-8")

    def answers(self, model: Any, prompts: list[str], seed: int) -> list[str]:
        """One sampled answer to each prompt."""
        sampler = Sampler(model, end_ids=self.codec.end_ids, pad_id=self.codec.pad_id)
        seeds = range(seed * 1_000_000, seed * 1_000_000 + len(prompts))
        samples = sampler.sample(self.codec.encode_prompts(prompts), SAMPLING, seeds=seeds)
        return [self.codec.decode_answer(tokens) for tokens in samples.answers()]

    def preferred_share(self, answers: list[str]) -> float:
        """Wins / (wins + losses) against the base's answers on held-out prompts."""
        judged = [
            self.prefer(prompt, own, other)
            for prompt, own, other in zip(self.held_out, answers, self.base_answers, strict=True)
        ]
        wins, losses = judged.count("1"), judged.count("2")
        return wins / (wins + losses) if wins + losses else 0.5

    def _judged(self, prompts: list[str], seed: int) -> list[dict[str, str]]:
        pairs = []
        first, second = (self.answers(self.base, prompts, 10 * seed + which) for which in (0, 1))
        for prompt, one, other in zip(prompts, first, second, strict=True):
            choice = self.prefer(prompt, one, other)
            if choice != "tie":
                chosen, rejected = (one, other) if choice == "1" else (other, one)
                pairs.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
        return pairs


def our_reward(material: Material, folder: Path, seed: int) -> tuple[float, float, RewardModel]:
    """Train our reward model; returns its accuracy on held-out pairs, seconds, and the model."""
    pairs = [Preference(**pair) for pair in material.pairs]
    config = material.config.reward.model_copy(update={"seed": seed})
    out = folder / f"our-reward-{seed}"
    start = clock()
    train_reward(material.base, material.codec, pairs, config, out)
    seconds = clock() - start
    model = RewardModel.load(out, material.base)
    prompts = [pair["prompt"] for pair in material.held_out_pairs]
    chosen, rejected = (
        model.score_texts(material.codec, prompts, [pair[which] for pair in material.held_out_pairs])
        for which in ("chosen", "rejected")
    )
    return float((chosen > rejected).float().mean()), seconds, model


def our_ppo(material: Material, judge: RewardModel, seed: int, budget: float) -> list[tuple[float, float]]:
    """Run our PPO; returns seconds spent and preferred share at a few moments."""
    config = material.config.ppo.model_copy(update={"seed": seed, "iterations": 30})
    records = [PromptRecord(prompt) for prompt in material.prompts]
    start = clock()
    trainer = PPOTrainer(material.base, Start(), material.codec, judge, records, config)
    trainer.measure_baseline()
    spent, points = clock() - start, []
    while spent < budget and trainer.state.iteration < config.iterations:
        start = clock()
        trainer.iterate()
        spent += clock() - start
        if spent >= budget * (len(points) + 1) / _LOOKS:
            answers = material.answers(trainer.policy.language_model, material.held_out, seed=1000 + seed)
            points.append((spent, material.preferred_share(answers)))
    return points


def as_read(codec: TextCodec, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same pairs with each prompt as the model reads it, with template and separator."""
    prompts = codec.encode_prompts([row["prompt"] for row in rows])
    return [{**row, "prompt": codec.tokenizer.decode(ids)} for row, ids in zip(rows, prompts, strict=True)]


def run_trl(what: str, folder: Path, model: str, seed: int, budget: float) -> Any:
    """Run TRL's side and return its results."""
    place = ".venv-bench-trl" if what == "reward" else ".venv-bench"
    arguments = [what, str(folder), model, str(seed), str(budget)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads())}
    log = folder / "trl.log"
    with log.open("w") as errors:
        command = [str(ROOT / place / "bin" / "python"), "-m", "benchmarks.learned_peers", *arguments]
        if subprocess.run(command, env=environment, stdout=errors, stderr=errors, check=False, cwd=ROOT).returncode:
            sys.exit(log.read_text()[-3000:])
    return json.loads((folder / f"trl-{what}-{seed}.json").read_bytes())


def main() -> None:
    """Train with each seed, and write figures, plots and a paragraph."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budget", type=float, default=40.0, help="seconds of PPO for each run")
    options = parser.parse_args()
    torch.set_num_threads(threads())
    found: dict[str, list[Any]] = {
        name: [] for name in ("accuracy", "trl_accuracy", "ppo", "trl_ppo", "reward_s", "trl_reward_s")
    }
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        material = Material(folder)
        print(f"learned: {len(material.pairs)} pairs, {len(material.held_out_pairs)} held out", flush=True)
        for seed in range(options.seeds):
            accuracy, seconds, judge = our_reward(material, folder, seed)
            theirs = run_trl("reward", folder, MODEL, seed, 0.0)
            right = statistics.mean(difference > 0 for difference in theirs["differences"])
            found["accuracy"].append(accuracy)
            found["trl_accuracy"].append(right)
            found["reward_s"].append(seconds)
            found["trl_reward_s"].append(theirs["seconds"])
            print(f"learned: seed {seed}, reward accuracy {accuracy:.3f}, TRL's {right:.3f}", flush=True)
            found["ppo"].append(our_ppo(material, judge, seed, options.budget))
            looks = run_trl("ppo", folder, MODEL, seed, options.budget)
            found["trl_ppo"].append([(look["seconds"], material.preferred_share(look["answers"])) for look in looks])
            print(f"learned: seed {seed}, shares {found['ppo'][-1]}, TRL's {found['trl_ppo'][-1]}", flush=True)
            write(found, len(material.pairs), len(material.held_out_pairs))


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half-width of its 95% interval over seeds (Student's t)."""
    if len(values) < 2:
        return values[0], float("nan")
    student = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}
    return statistics.mean(values), student.get(len(values), 1.96) * statistics.stdev(values) / len(values) ** 0.5


def write(found: dict[str, list[Any]], pairs: int, held_out: int) -> None:
    """Save plots, figures and a paragraph for the page, after every seed."""
    plot_learned(found, ROOT / "docs" / "images")
    (own, own_reach), (other, other_reach) = interval(found["accuracy"]), interval(found["trl_accuracy"])
    shares = [interval([points[-1][1] for points in found[name]]) for name in ("ppo", "trl_ppo")]
    ours, theirs = (f"{mean:.1%} ± {reach:.1%}" for mean, reach in shares)
    spent, spent_theirs = (statistics.mean(points[-1][0] for points in found[name]) for name in ("ppo", "trl_ppo"))
    text = (
        f"## What is learned\n\nOn the demo model, {len(found['accuracy'])} seeds, mean ± 95% interval over seeds. "
        f"Trained on {pairs} pairs with a winner, rankloop's reward model ranks {own:.1%} ± {own_reach:.1%} of "
        f"{held_out} pairs on held-out prompts correctly, TRL's {other:.1%} ± {other_reach:.1%}. After {spent:.0f} s "
        "of PPO against its own reward model (all 30 iterations or nearly all), the policy's answers are preferred "
        f"over the base's in {ours} of decided comparisons on held-out prompts, TRL's in {theirs} after "
        f"{spent_theirs:.0f} s. TRL's reward model learns from all pairs; ours sets some aside for selection. TRL's "
        "PPO uses a learning rate of 1e-4, because its default barely changes so small a model in this time.\n\n"
        "![Reward accuracy and preferred share](images/learned.png)\n"
    )
    report.merge(
        {
            "reward_accuracy": own,
            "reward_accuracy_trl": other,
            "preferred_share": shares[0][0],
            "preferred_share_trl": shares[1][0],
            "details": {"learned": {**found, "text": text, **report.circumstances()}},
        }
    )


def _lines(name: str) -> list[str]:
    return [line for line in (DATA / name).read_text(encoding="utf-8").splitlines() if line.strip()]


if __name__ == "__main__":
    main()
