"""Answers to be compared: sampled, scored by the reward model and by the judge, and measured.

Legend: P prompts, A answers to each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from training.config import PPOConfig
from training.models import PolicyWithValue, RewardModel, TextCodec
from training.objectives import kl_k1, masked_sum
from training.sampling import Reference, Sampler, Samples, reference_entropy, respond, score_samples

_BATCH = 32

Purpose = Literal["policy", "base", "champion", "pool"]
"""What answers are for; each has seeds of its own."""


class Answers:
    """One model's answers, prompt by prompt.

    Attributes:
        texts: without surrounding whitespace, P * A of them.
        tokens: their token ids.
        scores: (P, A) of the reward model.
        judged: (P, A) of its judges, which learned from other pairs than those that rewards come from; if it has none,
            the same scores.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.tokens: list[list[int]] = []
        self.scores = torch.zeros(0)
        self.judged = torch.zeros(0)
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, texts: Sequence[str], tokens: Sequence[list[int]], scores: Tensor, judged: Tensor) -> None:
        """Append the answers to more prompts; scores (P, A)."""
        self.texts += texts
        self.tokens += tokens
        self.scores = torch.cat([self.scores, scores]) if len(self.scores) else scores
        self.judged = torch.cat([self.judged, judged]) if len(self.judged) else judged

    def measured(self, figure: str, total: float, count: int) -> None:
        """Add to a figure the sum of `count` values."""
        before, counted = self._sums.get(figure, (0.0, 0))
        self._sums[figure] = before + total, counted + count

    def mean(self, figure: str) -> float:
        """The mean of a figure over what was measured."""
        total, count = self._sums[figure]
        return total / max(1, count)


class Examiner:
    """Lets models answer, and scores what they say.

    Args:
        policy: the policy that is evaluated, on whose trunk everything runs.
        codec: the base's tokenizer and template.
        reward_model: on the policy's base; its judges compare answers where it has any.
        reference: where the KL is measured from; None is the base.
        config: how answers are sampled, and how many.
        seed: the same seed gives the same answers.
    """

    def __init__(
        self,
        policy: PolicyWithValue,
        codec: TextCodec,
        reward_model: RewardModel,
        reference: Reference | None,
        config: PPOConfig,
        seed: int,
    ) -> None:
        self._policy, self._codec, self._config, self._seed = policy, codec, config, seed
        self._reward_model = reward_model
        self._base, self._reference = Reference(policy.base.model), reference
        self._samplers: dict[int, Sampler] = {}

    def ask_policy(self, into: Answers, prompts: Sequence[Sequence[int]], start: int) -> None:
        """Let the policy answer prompts number `start` and following, and measure its KL and entropy."""
        samples, repeated = self._sample(self._policy.language_model, prompts, "policy", start)
        rollout = self._respond(repeated, samples, self._base)
        from_base = kl_k1(rollout.logprobs, rollout.reference_logprobs, rollout.answer_mask)
        if self._reference and self._reference.top is not None:
            other = self._respond(repeated, samples, self._reference)
            kl = kl_k1(other.logprobs, other.reference_logprobs, other.answer_mask)
        else:
            kl = from_base
        into.measured("kl", float(kl.sum()), len(kl))
        into.measured("kl from base", float(from_base.sum()), len(kl))
        entropy = masked_sum(rollout.entropies, rollout.answer_mask)
        into.measured("entropy", float(entropy.sum()), int(rollout.answer_mask.sum()))
        self._add(into, samples, repeated, len(prompts), rollout.scores.cpu())

    def ask_base(self, into: Answers, prompts: Sequence[Sequence[int]], start: int) -> None:
        """Let the base answer, and measure its entropy."""
        samples, repeated = self._sample(self._base.model, prompts, "base", start)
        count = int(samples.mask.sum())
        entropy = reference_entropy(self._policy, self._base, repeated, samples, **self._reading())
        into.measured("entropy", entropy * count, count)
        self._add(into, samples, repeated, len(prompts))

    def ask(
        self, model: Any, into: Answers, prompts: Sequence[Sequence[int]], start: int, purpose: Purpose, answers: int
    ) -> None:
        """Let any model (a transformers PreTrainedModel) give so many answers to each prompt."""
        samples, repeated = self._sample(model, prompts, purpose, start, answers)
        self._add(into, samples, repeated, len(prompts))

    def _sample(
        self, model: Any, prompts: Sequence[Sequence[int]], purpose: Purpose, start: int, answers: int | None = None
    ) -> tuple[Samples, list[Sequence[int]]]:
        """Answers, and the prompt of each."""
        count, purposes = answers or self._config.evaluation_answers, get_args(Purpose)
        numbers = range(start * count, (start + len(prompts)) * count)
        seeds = [(self._seed + len(purposes) * number + purposes.index(purpose)) % 2**63 for number in numbers]
        codec = self._codec
        if id(model) not in self._samplers:
            self._samplers[id(model)] = Sampler(
                model, end_ids=codec.end_ids, pad_id=codec.pad_id, precision=self._config.precision
            )
        samples = self._samplers[id(model)].sample(
            prompts, self._config.sampling, seeds=seeds, answers_per_prompt=count
        )
        return samples, [prompt for prompt in prompts for _ in range(count)]

    def _add(
        self,
        into: Answers,
        samples: Samples,
        repeated: Sequence[Sequence[int]],
        prompts: int,
        scores: Tensor | None = None,
    ) -> None:
        model = self._reward_model
        if scores is None or model.judges:
            again, judged = score_samples(model, self._codec, repeated, samples, batch=_BATCH)
            scores = again if scores is None else scores
        else:
            judged = scores
        tokens = samples.answers()
        texts = [self._codec.decode_answer(row) for row in tokens]
        into.add(texts, tokens, scores.view(prompts, -1), judged.view(prompts, -1))

    def _respond(self, repeated: Sequence[Sequence[int]], samples: Samples, reference: Reference) -> Any:
        seen = self._codec.as_seen(samples.answers())
        return respond(
            self._policy, self._reward_model, repeated, samples, reference=reference, seen=seen, **self._reading()
        )

    def _reading(self) -> dict[str, Any]:
        temperature = self._config.sampling.temperature
        return {"eos_id": self._codec.eos_id, "temperature": temperature, "batch": _BATCH}
