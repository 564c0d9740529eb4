"""How a policy compares with its base on prompts it was never trained on, as the reward model sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from training.config import SamplingConfig
from training.evaluate import accuracy_with_interval
from training.models import PolicyWithValue
from training.objectives import kl_k1
from training.precision import Precision
from training.reward_model import RewardModel
from training.rollout import respond, score_samples
from training.sampling import Sampler
from training.text import TextCodec

_BATCH = 32


@dataclass(frozen=True, slots=True)
class PolicyEvaluation:
    """Fresh answers of policy and base, one each to every prompt.

    kl_nats: mean log-ratio of the policy's answers, per sequence.
    win_rate: share of prompts where the policy's answer scores higher, an even score counting half.
    win_rate_interval: its 95% Wilson interval.
    answer_tokens, base_answer_tokens: mean lengths, end of text included.
    The numbers are None where there is no prompt.
    """

    kl_nats: float | None
    win_rate: float | None
    win_rate_interval: tuple[float, float]
    answer_tokens: float | None
    base_answer_tokens: float | None


def evaluate_policy(
    base: Any,
    policy: PolicyWithValue,
    codec: TextCodec,
    reward_model: RewardModel,
    prompts: Sequence[str],
    sampling: SamplingConfig,
    *,
    seed: int,
    precision: Precision = "auto",
) -> PolicyEvaluation:
    """Sample both, score both, count wins.

    Args:
        base: the base model (a transformers PreTrainedModel).
        policy: what is measured, on that base.
        codec: the base's tokenizer and template.
        reward_model: on that base; decides which answer wins.
        prompts: held out from training.
        sampling: how answers are sampled; the KL is that of this temperature.
        seed: the same seed gives the same answers.
        precision: what sampling computes in; scores and log-probs are computed in float32.
    """
    if not prompts:
        return PolicyEvaluation(None, None, accuracy_with_interval(0, 0)[1], None, None)
    ids = codec.encode_prompts(prompts)
    special = {"eos_id": codec.eos_id, "pad_id": codec.pad_id}
    sampler, base_sampler = (
        Sampler(model, eos_id=codec.eos_id, pad_id=codec.pad_id, precision=precision)
        for model in (policy.language_model, base)
    )
    kls, wins, lengths, base_lengths = [], [], [], []
    for start in range(0, len(ids), _BATCH):
        part = ids[start : start + _BATCH]
        seeds = [(seed + 2 * (start + row)) % 2**63 for row in range(len(part))]
        ours = sampler.sample(part, sampling, seeds=seeds)
        theirs = base_sampler.sample(part, sampling, seeds=[(item + 1) % 2**63 for item in seeds])
        rollout = respond(policy, reward_model, part, ours, **special, temperature=sampling.temperature, batch=_BATCH)
        kls += kl_k1(rollout.logprobs, rollout.reference_logprobs, rollout.answer_mask).tolist()
        gains = rollout.scores.cpu() - score_samples(reward_model, part, theirs, **special, batch=_BATCH)
        wins += [0.5 if gain == 0 else float(gain > 0) for gain in gains.tolist()]
        lengths += ours.mask.sum(dim=1).tolist()
        base_lengths += theirs.mask.sum(dim=1).tolist()
    win_rate, interval = accuracy_with_interval(sum(wins), len(wins))
    return PolicyEvaluation(
        kl_nats=sum(kls) / len(kls),
        win_rate=win_rate,
        win_rate_interval=interval,
        answer_tokens=sum(lengths) / len(lengths),
        base_answer_tokens=sum(base_lengths) / len(base_lengths),
    )
