"""What gates and intervals promise, by simulation: how often luck passes, and how often an interval holds the truth.

- A reward model that learned from verdicts by coin flip, on the demo model's activations, passes its gate.
- A challenger that equals the champion is promoted.
- A policy that gained nothing but its reward model's errors is promoted, by a judge that learned from the same pairs,
  and by one whose pairs were set apart.
- The 95% interval of accuracy covers the truth, with several pairs to a prompt, which are right or wrong together.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import report
from benchmarks.learned import Material
from benchmarks.turns import threads
from training.config import GateConfig
from training.data import Preference
from training.evaluation import (
    PolicyEvaluation,
    clustered_accuracy,
    mean_with_interval,
    policy_gate,
    reward_gate,
    win_shares,
)
from training.models import RewardModel, Site
from training.reward import (
    PROMPTS_TO_SPARE_A_PART,
    Folds,
    PairFeatures,
    candidate_sites,
    fit_ensemble,
    folds_of,
    pair_features,
)

GATES = GateConfig()
_FOLDS = 5


def coin_flips(features: PairFeatures, preferences: Sequence[Preference], pairs: int, cycles: int) -> float:
    """The share of reward models that pass their gate though every verdict was a coin's."""
    draw, passed = torch.Generator().manual_seed(0), 0
    for cycle in range(cycles):
        rows = torch.randperm(len(preferences), generator=draw)[:pairs]
        verdicts = (torch.rand(len(rows), generator=draw) < 0.5).float()
        folds = folds_of([preferences[row] for row in rows.tolist()], _FOLDS, cycle)
        found = fit_ensemble(
            lambda sites, index, rows=rows: features.differences(sites, rows[index]),
            candidate_sites(features.depths),
            verdicts,
            torch.ones(len(rows)),
            folds,
        )
        right = (found.out_of_fold != 0) & ((found.out_of_fold > 0) == (verdicts == 1))
        passed += reward_gate(len(rows), clustered_accuracy(right, folds.groups), GATES, folds=folds.count)["passed"]
    return passed / cycles


def equal_challengers(prompts: int, cycles: int, answers: int = 4) -> float:
    """The share of challengers that are promoted though they answer just as the champion does."""
    draw, promoted = torch.Generator().manual_seed(1), 0
    for _ in range(cycles):
        level = 2 * torch.randn(prompts, 1, generator=draw)
        mine, theirs = (level + torch.randn(prompts, answers, generator=draw) for _ in range(2))
        promoted += passes(mine, theirs)
    return promoted / cycles


def hollow_policies(pairs: int, cycles: int, *, prompts: int = 45, answers: int = 4, size: int = 32) -> float:
    """The share of policies that are promoted though they give the best of 16 answers by a model of coin flips.

    The judge, whose verdicts were coin flips too, has opinions of its own, which may agree with them by luck.
    """
    draw, promoted = torch.Generator().manual_seed(2), 0
    folds = Folds(torch.arange(pairs) % _FOLDS, torch.arange(pairs), _FOLDS, by_prompt=True)
    for _ in range(cycles):
        x = torch.randn(pairs, size, generator=draw, dtype=torch.float64) / size**0.5
        verdicts = (torch.rand(pairs, generator=draw) < 0.5).float()
        found = fit_ensemble(lambda _, rows, x=x: x[rows], [[(Site(0, "mean"),)]], verdicts, torch.ones(pairs), folds)
        steers = torch.stack([member.weights[0] for member in found.members]).mean(dim=0)
        pool = torch.randn(prompts, answers, 16, size, generator=draw, dtype=torch.float64)
        best = (pool @ steers).argmax(dim=2)[:, :, None, None].expand(-1, -1, 1, size)
        mine, theirs = pool.gather(2, best)[:, :, 0], torch.randn(prompts, answers, size, generator=draw).double()
        promoted += passes(mine @ found.judges[0].weights[0], theirs @ found.judges[0].weights[0])
    return promoted / cycles


def passes(mine: Tensor, theirs: Tensor) -> bool:
    """Whether answers scored mine (P, A) are promoted over answers scored theirs (P, A)."""
    mean, low, high = mean_with_interval(win_shares(mine, theirs).mean(dim=1))
    evaluation = PolicyEvaluation(
        evaluated_prompts=len(mine),
        kl_nats=1.0,
        win_rate_vs_champion=float(mean),
        champion_interval=(float(low), float(high)),
        base_answer_tokens=25.0,
    )
    return policy_gate(evaluation, GATES)["passed"]


def covered(prompts: int, each: int, simulations: int) -> float:
    """The share of intervals that hold the truth, where prompts differ in difficulty."""
    draw, holds = torch.Generator().manual_seed(prompts), 0
    groups = torch.arange(prompts).repeat_interleave(each)
    for _ in range(simulations):
        difficulty = torch.rand(prompts, generator=draw) * 0.5 + 0.5
        holds += clustered_accuracy(torch.rand(len(groups), generator=draw) < difficulty[groups], groups).holds(0.75)
    return holds / simulations


def demo_features(folder: Path) -> tuple[PairFeatures, list[Preference]]:
    """The demo model's pairs, two to a held-out prompt, and the activations that a probe reads."""
    material = Material(folder)
    pairs = [Preference(**pair) for pair in (*material.held_out_pairs, *material.pairs)]
    reader = RewardModel.on_base(material.base, 0.7)
    depths = range(1, reader.base.n_layers + 1)
    return pair_features(reader, material.codec, pairs, tuple(depths), keep_trunk=False), pairs


def main() -> None:
    """Simulate, and write figures and a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5, help="hundreds of simulations of each kind; cycles are twice")
    options = parser.parse_args()
    torch.set_num_threads(threads())
    simulations, cycles = 100 * options.seeds, 200 * options.seeds
    with tempfile.TemporaryDirectory() as folder:
        features, preferences = demo_features(Path(folder))
        found = {"coin flips, 60 pairs": (coin_flips(features, preferences, 60, cycles), cycles, "at most 5%")}
    for prompts in (8, 24, 100):
        found[f"equal challenger, {prompts} held-out prompts"] = (
            equal_challengers(prompts, cycles),
            cycles,
            "at most 5%",
        )
    few, enough = PROMPTS_TO_SPARE_A_PART // 2, PROMPTS_TO_SPARE_A_PART
    found[f"hollow policy, {enough} pairs, judge apart"] = (
        hollow_policies(enough, simulations),
        simulations,
        "at most 5%",
    )
    found[f"hollow policy, {few} pairs, judge not apart"] = (
        hollow_policies(few, simulations),
        simulations,
        "not promised",
    )
    for prompts, each in ((150, 1), (50, 3), (20, 5)):
        share = covered(prompts, each, simulations)
        found[f"interval holds, {prompts} prompts of {each}"] = share, simulations, "at least 93%"
    write(found)


def write(found: dict[str, tuple[float, int, str]]) -> None:
    """Save the figures and a table."""
    lines = [
        "## What gates and intervals promise\n",
        "How often luck passes a gate, and how often a 95% interval holds the truth, by simulation.\n",
        "| | simulations | share | promised |",
        "|---|---|---|---|",
    ]
    for name, (share, count, promise) in found.items():
        print(f"calibration: {name}: {share:.1%} of {count}", flush=True)
        lines.append(f"| {name} | {count} | {share:.1%} | {promise} |")
    flat = {
        f"calibration_{name.replace(',', '').replace(' ', '_').replace('-', '_')}": row[0]
        for name, row in found.items()
    }
    text = "\n".join([*lines, ""])
    report.merge({**flat, "details": {"calibration": {"text": text, **report.circumstances()}}})


if __name__ == "__main__":
    main()
