"""Whether a device computes what the CPU computes: sampling, a reward step and an iteration of PPO on tiny models."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from scripts.gpu_check.shapes import END, PAD, tiny_codec, tiny_models
from training.config import PPOConfig, SamplingConfig
from training.data import PromptRecord
from training.models import RewardModel, pad_right
from training.ppo import PPOTrainer, Start
from training.preference_losses import bradley_terry_loss
from training.sampling import Sampler

PROMPTS = [[3, 5, 7], [11, 13], [2, 9, 4, 6, 8], [10]]
PAIRS = [[3, 5, 7, 11, END], [3, 5, 7, 12, 13, 14, END], [2, 9, 20, END], [2, 9, 21, 22, END]]  # chosen, rejected, ...
NEW_TOKENS = 8
CLOSE = 2e-3


def same_samples(model: Any, device: torch.device) -> float:
    """The share of answers, greedy and sampled, that differ from the CPU's."""
    differing, total = 0, 0
    for config in (
        SamplingConfig(top_k=1, top_p=1.0, max_new_tokens=NEW_TOKENS),
        SamplingConfig(top_k=0, top_p=1.0, max_new_tokens=NEW_TOKENS),
    ):
        found = []
        for place in (torch.device("cpu"), device):
            sampler = Sampler(copy.deepcopy(model).to(place), end_ids=(END,), pad_id=PAD, precision="float32")
            found.append(sampler.sample(PROMPTS, config, seeds=range(8), answers_per_prompt=2).answers())
        differing += sum(ours != theirs for ours, theirs in zip(*found, strict=True))
        total += len(found[0])
    return differing / total


def same_reward_step(model: Any, device: torch.device) -> float:
    """The largest difference between the scores on the CPU and on the device, after two steps of training."""
    return _difference(_rewarded(model, torch.device("cpu")), _rewarded(model, device))


def same_ppo_iteration(model: Any, device: torch.device) -> float:
    """The largest difference between an iteration on the CPU and on the device: its metrics, and the logits after."""
    return _difference(_reinforced(model, torch.device("cpu")), _reinforced(model, device))


CHECKS: Mapping[str, Callable[[Any, torch.device], float]] = {
    "sampling": same_samples,
    "reward step": same_reward_step,
    "PPO iteration": same_ppo_iteration,
}
"""Each answers with 0 for the same, and with more than `CLOSE` for something else."""


def all_checks(device: torch.device) -> dict[str, float]:
    """Every check on every tiny model, by what was checked."""
    return {
        f"{name}: {what}": check(model, device)
        for name, model in tiny_models().items()
        for what, check in CHECKS.items()
    }


def _rewarded(model: Any, device: torch.device) -> Tensor:
    reward_model = RewardModel(copy.deepcopy(model).to(device), 1)
    optimizer = torch.optim.AdamW(reward_model.parameters(), lr=1e-3)
    ids, mask = (part.to(device) for part in pad_right(PAIRS, PAD))
    context, last = reward_model.base.context(mask), mask.sum(dim=1) - 1
    trunk = reward_model.trunk(ids, context)
    for _ in range(2):
        scores = reward_model.top_scores(trunk, context, last)[:, 0]
        optimizer.zero_grad()
        bradley_terry_loss(scores[0::2], scores[1::2], torch.ones(2, device=device)).backward()
        optimizer.step()
    return reward_model.top_scores(trunk, context, last).detach().cpu()


def _reinforced(model: Any, device: torch.device) -> Tensor:
    base = copy.deepcopy(model).to(device)
    reward_model = RewardModel(base, 1)
    with torch.no_grad():
        reward_model.head.weight += torch.linspace(-1, 1, reward_model.head.weight.numel()).to(device)
    config = PPOConfig(
        iterations=1,
        origin_answers=2,
        max_kl_nats=1e9,
        max_repetition=1.0,
        max_similarity_gain=1.0,
        min_entropy_share=0.0,
        prompts_per_iteration=8,
        minibatch_size=4,
        micro_batch_size=2,
        epochs=2,
        learning_rate=1e-4,
        precision="float32",
        sampling=SamplingConfig(top_k=0, top_p=1.0, max_new_tokens=NEW_TOKENS),
    )
    prompts = [PromptRecord(" ".join(f"w{(place * 7 + step) % 30 + 2}" for step in range(3))) for place in range(30)]
    trainer = PPOTrainer(base, Start(), tiny_codec(), reward_model, prompts, config)
    trainer.measure_baseline()
    point = trainer.iterate()
    metrics = [point.reward, point.entropy_nats, point.policy_loss, point.value_loss, point.answer_tokens]
    with torch.no_grad():
        logits = trainer.policy.language_model(torch.tensor(PROMPTS[2:3], device=device)).logits
    return torch.cat([torch.tensor(metrics), logits.float().cpu().flatten()])


def _difference(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max())
