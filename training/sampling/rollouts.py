"""Scores, log-probs and values of a batch of sampled answers: everything PPO's epochs need, computed once.

Legend: B answers, S tokens of the longest prompt with its answer, T tokens of the longest answer, H hidden size,
V vocabulary, N real answer tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor, nn

from training.fast import length_groups
from training.models import PolicyWithValue, RewardModel, TextCodec, pad_right
from training.sampling.reference import Reference
from training.sampling.sampler import Samples


@dataclass(frozen=True, slots=True)
class Rollout:
    """Answers with the frozen trunk's activations and the outputs of policy, reference and reward model.

    trunk: (B, S, H) float32, hidden states below the policy's trained layers.
    mask: (B, S) bool, real tokens of prompt and answer, padded on the right.
    starts: (B,) long, index of the prompt's last token, whose hidden state predicts the answer's first.
    tokens: (B, T) long, the answers.
    answer_mask: (B, T) bool, real answer tokens, end of text included.
    ended: (B,) bool, whether the answer reached its end of text.
    logprobs, reference_logprobs: (B, T) float32, under the policy that sampled and under the reference, 0 at padding.
    values: (B, T) float32, of the state before each answer token, 0 at padding.
    entropies: (B, T) float32, of the policy at each answer token, in nats, 0 at padding.
    scores: (B,) float32, the reward model's raw scores.
    so_far: (B, T) float32, its probe's score of what comes before each token; 0 before the first, and without a probe.
    """

    trunk: Tensor
    mask: Tensor
    starts: Tensor
    tokens: Tensor
    answer_mask: Tensor
    ended: Tensor
    logprobs: Tensor
    reference_logprobs: Tensor
    values: Tensor
    entropies: Tensor
    scores: Tensor
    so_far: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The concatenation of batches, all padded to the longest sequence and the longest answer."""
        width, length = (max(getattr(part, name).shape[1] for part in parts) for name in ("mask", "tokens"))
        sizes = {item.name: length for item in fields(cls)} | {"trunk": width, "mask": width}
        return cls(
            *(
                torch.cat([_widened(getattr(part, item.name), sizes[item.name]) for part in parts])
                for item in fields(cls)
            )
        )

    def rows(self, index: Tensor) -> Self:
        """The answers at `index` (M,) long, without padding that none of them needs."""
        width = int(self.mask[index].sum(dim=1).max())
        length = int(self.answer_mask[index].sum(dim=1).max())
        return type(self)(
            trunk=self.trunk[index, :width],
            mask=self.mask[index, :width],
            starts=self.starts[index],
            tokens=self.tokens[index, :length],
            answer_mask=self.answer_mask[index, :length],
            ended=self.ended[index],
            logprobs=self.logprobs[index, :length],
            reference_logprobs=self.reference_logprobs[index, :length],
            values=self.values[index, :length],
            entropies=self.entropies[index, :length],
            scores=self.scores[index],
            so_far=self.so_far[index, :length],
        )


@dataclass(frozen=True, slots=True)
class _Sequences:
    """Prompts with their answers, before any model has read them; fields as in `Rollout`, plus ids (B, S) long."""

    ids: Tensor
    mask: Tensor
    starts: Tensor
    tokens: Tensor
    answer_mask: Tensor
    ended: Tensor

    def split(self, size: int) -> Iterator[Self]:
        """Batches of `size` rows, padded as the whole is."""
        columns = (torch.split(getattr(self, item.name), size) for item in fields(self))
        return (type(self)(*parts) for parts in zip(*columns, strict=True))

    def batches(self, size: int) -> tuple[list[Self], Tensor | None]:
        """Batches of at most `size` rows, on a CPU those of like length without padding that none of them needs; and
        where each of the B rows is when these are put one after the other, None where it was.
        """
        if self.mask.device.type != "cpu":
            return list(self.split(size)), None
        lengths = self.mask.sum(dim=1)
        groups = [
            part[group]
            for part in torch.split(lengths.argsort(stable=True), size)
            for group in length_groups(lengths[part].tolist())
        ]
        return [self._rows(group) for group in groups], torch.cat(groups).argsort()

    def _rows(self, index: Tensor) -> Self:
        width, length = int(self.mask[index].sum(dim=1).max()), int(self.answer_mask[index].sum(dim=1).max())
        ids, mask = self.ids[index, :width], self.mask[index, :width]
        tokens, answer_mask = self.tokens[index, :length], self.answer_mask[index, :length]
        return type(self)(ids, mask, self.starts[index], tokens, answer_mask, self.ended[index])


def respond(
    policy: PolicyWithValue,
    reward_model: RewardModel,
    prompts: Sequence[Sequence[int]],
    samples: Samples,
    *,
    eos_id: int,
    temperature: float,
    batch: int,
    reference: Reference | None = None,
    seen: Sequence[Sequence[int]] | None = None,
) -> Rollout:
    """Score sampled answers and compute their log-probs under policy and reference, in one pass over shared layers.

    The log-probs are recomputed with the forward pass that training uses: decoding computes them in a different order
    and perhaps precision, and PPO's ratios would mistake the difference for learning. They are those of the tokens that
    were sampled; the reward model scores what people would see.

    Args:
        policy: on the same base as `reward_model`.
        reward_model: scores the answers.
        prompts: B prompts as token ids, in the order of the samples.
        samples: the sampled answers.
        eos_id: the end-of-text token, which also fills batches.
        temperature: what sampling divided the logits by.
        batch: answers per forward pass.
        reference: where the KL is measured from; None is the base.
        seen: B answers as people see them, from `TextCodec.as_seen`; None scores the tokens that were sampled.
    """
    top = reference.top if reference else None
    parts, places = _sequences(policy, prompts, samples, eos_id).batches(batch)
    rollout = Rollout.joined([_read(policy, reward_model, part, temperature, top) for part in parts])
    if places is not None:
        rollout = rollout.rows(places)
    if seen is not None:
        # Few answers are other tokens once they are decoded and encoded again, so only these are read twice.
        whole = _answers_as_scored(samples, eos_id)
        rows = [row for row, (tokens, shown) in enumerate(zip(whole, seen, strict=True)) if tokens != list(shown)]
        pairs = [_within(reward_model.base.max_positions, prompts[row], seen[row], eos_id) for row in rows]
        rollout.scores[rows] = reward_model.score_sequences(pairs, eos_id, batch)[0].to(rollout.scores.device)
    return rollout


@torch.no_grad()
def reference_entropy(
    policy: PolicyWithValue,
    reference: Reference,
    prompts: Sequence[Sequence[int]],
    samples: Samples,
    *,
    eos_id: int,
    temperature: float,
    batch: int,
) -> float:
    """The reference's mean entropy in nats at a token of its own answers; arguments as for `respond`."""
    total, count = 0.0, 0
    for part in _sequences(policy, prompts, samples, eos_id).batches(batch)[0]:
        context = policy.base.context(part.mask)
        depth = _top_of(policy, reference.top)
        below = policy.base.activations(part.ids, context, [depth])[depth]
        hidden = policy.base.norm(below) if reference.top is None else reference.top(below, context)
        found = answer_hidden(hidden, part.starts, part.answer_mask)
        _, entropies = policy.head.logprobs_and_entropies(found, part.tokens[part.answer_mask], temperature)
        total, count = total + float(entropies.sum()), count + len(entropies)
    return total / max(1, count)


def _sequences(policy: PolicyWithValue, prompts: Sequence[Sequence[int]], samples: Samples, eos_id: int) -> _Sequences:
    answers = _answers_as_scored(samples, eos_id)
    ids, mask = pad_right([[*p, *a] for p, a in zip(prompts, answers, strict=True)], eos_id)
    starts = torch.tensor([len(prompt) - 1 for prompt in prompts])
    columns = ids, mask, starts, samples.tokens, samples.mask, samples.ended
    return _Sequences(*(column.to(policy.base.device) for column in columns))


def _answers_as_scored(samples: Samples, eos_id: int) -> list[list[int]]:
    """Each answer with an end of text, also if it was cut."""
    return [
        answer if ended else [*answer, eos_id]
        for answer, ended in zip(samples.answers(), samples.ended.tolist(), strict=True)
    ]


def _within(limit: int, prompt: Sequence[int], answer: Sequence[int], eos_id: int) -> tuple[Sequence[int], list[int]]:
    """A sequence that a model can read: odd tokens may become more of them when their text is encoded again."""
    room = max(1, limit - len(prompt))
    return prompt, list(answer) if len(answer) <= room else [*answer[: room - 1], eos_id]


def score_samples(
    reward_model: RewardModel,
    codec: TextCodec,
    prompts: Sequence[Sequence[int]],
    samples: Samples,
    *,
    batch: int = 32,
) -> tuple[Tensor, Tensor]:
    """Raw scores (B,) float32 of sampled answers as people see them, and the judges' (B,), both on the CPU.

    `prompts` has one entry per answer. Judges learned from other pairs than the models that rewards come from.
    """
    limit, end = reward_model.base.max_positions, codec.eos_id
    seen = codec.as_seen(samples.answers())
    pairs = [_within(limit, prompt, answer, end) for prompt, answer in zip(prompts, seen, strict=True)]
    return reward_model.score_sequences(pairs, codec.eos_id, batch)


def answer_hidden(hidden: Tensor, starts: Tensor, answer_mask: Tensor) -> Tensor:
    """The states (N, H) that predict the real answer tokens: hidden (B, S, H), starts (B,), answer_mask (B, T)."""
    rows, steps = answer_mask.nonzero(as_tuple=True)
    flat = rows * hidden.shape[1] + starts[rows] + steps
    return hidden.reshape(-1, hidden.shape[-1]).index_select(0, flat)


def spread_out(values: Tensor, answer_mask: Tensor) -> Tensor:
    """Values (N,) of the real answer tokens arranged as (B, T), with 0 at padding."""
    return torch.zeros(answer_mask.shape, device=values.device).masked_scatter(answer_mask, values.float())


@torch.no_grad()
def _read(
    policy: PolicyWithValue,
    reward_model: RewardModel,
    given: _Sequences,
    temperature: float,
    reference: nn.Module | None,
) -> Rollout:
    """Run policy, reference and reward model on one batch; `reference` None is the base."""
    base, mask = policy.base, given.answer_mask
    context = base.context(given.mask)
    depths = {policy.depth, *reward_model.depths, _top_of(policy, reference)}
    shared = base.activations(given.ids, context, depths)
    trunk, chosen = shared[policy.depth], given.tokens[mask]
    hidden = answer_hidden(policy(trunk, context), given.starts, mask)
    logprobs, entropies = policy.head.logprobs_and_entropies(hidden, chosen, temperature)
    states = base.norm(shared[base.n_layers]) if reference is None else reference(trunk, context)
    reference_logprobs = policy.head.logprobs(answer_hidden(states, given.starts, mask), chosen, temperature)
    return Rollout(
        trunk=trunk,
        mask=given.mask,
        starts=given.starts,
        tokens=given.tokens,
        answer_mask=mask,
        ended=given.ended,
        logprobs=spread_out(logprobs, mask),
        reference_logprobs=spread_out(reference_logprobs, mask),
        values=spread_out(policy.values(hidden), mask),
        entropies=spread_out(entropies, mask),
        scores=reward_model.score_over(shared, given.ids, given.mask, context, given.starts).float(),
        so_far=_so_far(reward_model, shared, given),
    )


def _so_far(reward_model: RewardModel, shared: Mapping[int, Tensor], given: _Sequences) -> Tensor:
    """`Rollout.so_far` of a batch."""
    mask, starts = given.answer_mask, given.starts[:, None]
    if reward_model.probe is None:
        return torch.zeros(mask.shape, device=mask.device)
    columns, steps = (torch.arange(size, device=mask.device) for size in (given.mask.shape[1], mask.shape[1]))
    found = reward_model.probe.so_far(shared, given.mask & (columns > starts))
    before = found.gather(1, (starts + steps).clamp(max=found.shape[1] - 1))
    return torch.where(mask & (steps > 0), before, 0.0)


def _widened(column: Tensor, size: int) -> Tensor:
    """(b, s, ...) as (b, size, ...), with zeros on the right; a column (b,) as it is."""
    if column.dim() == 1 or column.shape[1] == size:
        return column
    wider = column.new_zeros(column.shape[0], size, *column.shape[2:])
    wider[:, : column.shape[1]] = column
    return wider


def _top_of(policy: PolicyWithValue, reference: nn.Module | None) -> int:
    """The depth to which the base's layers must run for the reference's sake."""
    return policy.base.n_layers if reference is None else policy.depth
