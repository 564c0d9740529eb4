"""The inputs of a PPO run: checked before anything is computed, hashed to identify the run, and drawn by seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from training.config import PPOConfig
from training.data import Preference, PromptRecord, Split, prompt_as_json, split_of
from training.errors import ConfigError, DataError, ModelError
from training.models import RewardModel, TextCodec, tensor_digest
from training.runs import run_digest


def check_inputs(
    base: Any, codec: TextCodec, reward_model: RewardModel, prompts: Sequence[PromptRecord], config: PPOConfig
) -> None:
    """Reject inputs that can't be trained on, before anything is computed; `train_ppo` lists the errors."""
    if reward_model.base.model is not base:
        raise ModelError("the reward model has a different base", remedy="Load it on the base that PPO is given.")
    if config.algorithm in {"rloo", "best-of-n"} and config.answers < 2:
        raise ConfigError(
            f"{config.algorithm} compares answers to the same prompt",
            got=f"ppo.answers_per_prompt = {config.answers_per_prompt}",
            expected="2 or more",
        )
    if config.uncertainty_penalty and reward_model.heads < 2:
        raise ConfigError(
            "a reward model with one head can't estimate uncertainty",
            got=f"ppo.uncertainty_penalty = {config.uncertainty_penalty}",
            expected="0, or a reward model trained with reward.heads of 2 or more",
        )
    if (config.sampling.top_k, config.sampling.top_p) != (0, 1.0):
        raise ConfigError(
            "rollouts must be sampled from the full distribution, which their log-probs refer to",
            got=f"top_k = {config.sampling.top_k}, top_p = {config.sampling.top_p}",
            expected="ppo.sampling with top_k = 0 and top_p = 1",
        )
    if not any(split_of(record.prompt) is Split.TRAIN for record in prompts):
        raise DataError(
            "there is no prompt to train on",
            got=f"{len(prompts)} prompts, none of them in the training split",
            remedy="Add prompts: seven in ten fall into the training split.",
        )
    longest = max(len(ids) for ids in codec.encode_prompts([record.prompt for record in prompts]))
    needed = longest + config.sampling.max_new_tokens + 1
    if needed > reward_model.base.max_positions:
        raise DataError(
            "prompts and answers are longer than the model can read",
            got=f"{longest} tokens of prompt and {config.sampling.max_new_tokens} of answer",
            expected=f"at most {reward_model.base.max_positions - 1} together",
            remedy="Lower text.max_prompt_tokens or ppo.sampling.max_new_tokens.",
        )


def inputs_digest(
    models: Sequence[Any],
    codec: TextCodec,
    prompts: Sequence[PromptRecord],
    preferences: Sequence[Preference],
    config: PPOConfig,
) -> str:
    """A hash of everything that determines a run's outcome; taken before the policy is changed."""
    digests = ["none" if model is None else tensor_digest(model.named_parameters()) for model in models]
    texts = json.dumps([[prompt_as_json(record.prompt), record.reference] for record in prompts])
    pairs = json.dumps([asdict(pair) for pair in preferences])
    return run_digest("ppo", *digests, texts, pairs, codec.config.model_dump_json(), config.model_dump_json())


def held_out_prompts(prompts: Sequence[PromptRecord], config: PPOConfig) -> list[PromptRecord]:
    """The prompts outside the training split, in order: all of them, or `evaluation_prompts` drawn by the seed."""
    found = [record for record in prompts if split_of(record.prompt) is not Split.TRAIN]
    if len(found) <= config.evaluation_prompts:
        return found
    drawn = prompts_of(0, config.evaluation_prompts, len(found), seed_of(config.seed, "evaluation prompts"))
    return [found[index] for index in sorted(drawn)]


def prompts_of(iteration: int, count: int, total: int, seed: int) -> list[int]:
    """Which `count` of `total` prompts an iteration answers: every epoch is a new permutation of all of them."""
    places = range(iteration * count, (iteration + 1) * count)
    orders: dict[int, list[int]] = {}
    for epoch in {place // total for place in places}:
        generator = torch.Generator().manual_seed(seed_of(seed, "prompts", epoch))
        orders[epoch] = torch.randperm(total, generator=generator).tolist()
    return [orders[place // total][place % total] for place in places]


def seed_of(*parts: int | str) -> int:
    """A seed in [0, 2^63) that depends on exactly these parts."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
