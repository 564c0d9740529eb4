"""Direct preference optimisation: the policy learns from people's votes, without a reward model in between.

It goes through the same iterations as PPO. Each samples a batch of answers too, but only to watch the policy: KL,
variety and score are measured as for the other algorithms, and the same bounds hold.

Reference: Rafailov et al. 2023 (2305.18290).

Legend: B pairs, S tokens of the longest prompt with its answer, T tokens of the longest answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from training.config import PPOConfig
from training.data import Preference, PromptRecord, Split, split_of
from training.errors import DataError, DivergedError
from training.models import PolicyWithValue, RewardModel, TextCodec, pad_right, sequences_of
from training.objectives import masked_sum
from training.ppo.baseline import Baseline
from training.ppo.critic import Critic
from training.ppo.diagnostics import point_of
from training.ppo.inputs import prompts_of
from training.ppo.report import PPOPoint
from training.ppo.step import PPOStep
from training.ppo.update import UpdateStats
from training.preference_losses import dpo_loss
from training.sampling import Reference, answer_hidden, spread_out

_Sequence = tuple[list[int], list[int]]
"""A prompt and an answer with its end of text, as token ids."""


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Pairs that people judged.

    Attributes:
        sequences: (chosen, rejected) of each.
        references: (N, 2) log pi_ref(y|x) of both.
        p_chosen: (N,) shares of votes for the chosen answer.
        weights: (N,) how much a pair counts, 1 on average.
    """

    sequences: list[tuple[_Sequence, _Sequence]]
    references: Tensor
    p_chosen: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.sequences)


class DPOStep(PPOStep):
    """One iteration of DPO.

    Args:
        preferences: of all splits; those of the training split are learned from, the others only watched.
        others: as for `PPOStep`.
    """

    def __init__(
        self,
        policy: PolicyWithValue,
        reference: Reference,
        optimizer: torch.optim.Optimizer,
        codec: TextCodec,
        reward_model: RewardModel,
        prompts: Sequence[PromptRecord],
        config: PPOConfig,
        preferences: Sequence[Preference],
    ) -> None:
        super().__init__(policy, reference, optimizer, codec, reward_model, prompts, config)
        inside = [pair for pair in preferences if split_of(pair.prompt) is Split.TRAIN]
        outside = [pair for pair in preferences if split_of(pair.prompt) is not Split.TRAIN and not pair.is_tie]
        if not inside:
            raise DataError(
                "there is no preference to train on",
                got=f"{len(preferences)} preferences, none of whose prompts is in the training split",
            )
        self._learned, self._held_out = self._read(inside), self._read(outside)

    def take(
        self,
        iteration: int,
        kl_coefficient: float,  # noqa: ARG002
        baseline: Baseline,
        critic: Critic,  # noqa: ARG002
    ) -> PPOPoint:
        """Learn from one batch of pairs; arguments, result and errors as for `PPOStep.take`."""
        rollout = self._roll_out(iteration)
        rewards = self._rewards(rollout, iteration, baseline)
        held_out = self._ordered(iteration)
        stats, measured = self._learn(iteration)
        point = point_of(iteration, rollout, rewards, torch.zeros_like(rollout.values), stats, 0.0, self.config)
        return replace(point, **measured, held_out_pair_accuracy=held_out)

    def _read(self, preferences: Sequence[Preference]) -> _Pairs:
        """Encode preferences, and run the reference on them once."""
        asked, longest = [pair.prompt for pair in preferences], self.policy.base.max_positions
        sides = [
            sequences_of(self._codec, asked, answers, longest)
            for answers in ([pair.chosen for pair in preferences], [pair.rejected for pair in preferences])
        ]
        sequences = list(zip(*sides, strict=True))
        with torch.no_grad(), self._computing():
            parts = [torch.zeros(0, 2)]
            for start in range(0, len(sequences), 32):
                parts.append(self._logprobs(sequences[start : start + 32], self._reference).cpu())
        votes = torch.tensor([float(pair.votes) for pair in preferences])
        p_chosen = torch.tensor([pair.p_chosen for pair in preferences])
        return _Pairs(sequences, torch.cat(parts), p_chosen, votes / votes.mean())

    def _ordered(self, iteration: int) -> float | None:
        """The share of a minibatch of held-out pairs that the policy orders as people did."""
        pairs, total = self._held_out, len(self._held_out)
        if not total:
            return None
        rows = prompts_of(iteration, min(total, self.config.minibatch_size), total, self._seed("held-out pairs"))
        with torch.no_grad(), self._computing():
            logprobs = self._logprobs([pairs.sequences[row] for row in rows], None).cpu()
        return _share_ordered(logprobs - pairs.references[rows], pairs.p_chosen[rows])

    def _learn(self, iteration: int) -> tuple[UpdateStats, dict[str, Any]]:
        """One pass over the iteration's pairs; returns their log-ratios too, each from before its step."""
        config, pairs = self.config, self._learned
        losses, norms, found = [], [], []
        rows = torch.tensor(prompts_of(iteration, config.prompts_per_iteration, len(pairs), config.seed))
        for index in torch.split(rows, config.minibatch_size):
            self.optimizer.zero_grad(set_to_none=True)
            loss = 0.0
            for part in torch.split(index, max(1, (config.micro_batch_size or 2 * len(index)) // 2)):
                with self._computing():
                    logprobs = self._logprobs([pairs.sequences[row] for row in part.tolist()], None)
                    ratios = logprobs - pairs.references[part].to(logprobs.device)
                aims = pairs.p_chosen[part].to(ratios.device), pairs.weights[part].to(ratios.device)
                share = dpo_loss(ratios[:, 0], ratios[:, 1], aims[0], config.dpo_beta, aims[1]) * len(part) / len(index)
                share.backward()  # type: ignore[no-untyped-call]
                loss += float(share.detach())
                found.append(ratios.detach().cpu())
            norm = float(torch.nn.utils.clip_grad_norm_(self.policy.parameters(), config.max_grad_norm))
            if not math.isfinite(loss + norm):
                raise DivergedError("the loss or its gradient is NaN or infinite", got=loss)
            self.optimizer.step()
            losses.append(loss)
            norms.append(norm)
        self.policy.settle()
        stats = UpdateStats(
            policy_loss=sum(losses) / len(losses),
            value_loss=0.0,
            clip_share=0.0,
            first_ratio_gap=0.0,
            ratio_min=1.0,
            ratio_max=1.0,
            gradient_norm=sum(norms) / len(norms),
        )
        ratios = torch.cat(found)
        chosen, rejected = ratios.mean(dim=0).tolist()
        accuracy = _share_ordered(ratios, pairs.p_chosen[rows])
        return stats, {"chosen_nats": chosen, "rejected_nats": rejected, "pair_accuracy": accuracy}

    def _logprobs(self, pairs: Sequence[tuple[_Sequence, _Sequence]], reference: Reference | None) -> Tensor:
        """log pi(y|x) (B, 2) of the chosen and the rejected answers, by the policy or by a reference."""
        sequences = [pair[side] for side in (0, 1) for pair in pairs]
        device, base = self.policy.base.device, self.policy.base
        ids, mask = (part.to(device) for part in pad_right([[*p, *a] for p, a in sequences], self._codec.pad_id))
        tokens, answer_mask = (part.to(device) for part in pad_right([a for _, a in sequences], self._codec.pad_id))
        starts = torch.tensor([len(p) - 1 for p, _ in sequences], device=device)
        context = base.context(mask)
        depths = {self.policy.depth, base.n_layers} if reference and reference.top is None else {self.policy.depth}
        found = base.activations(ids, context, depths)
        top: Any = self.policy if reference is None else reference.top
        hidden = base.norm(found[base.n_layers]) if top is None else top(found[self.policy.depth], context)
        states = answer_hidden(hidden, starts, answer_mask)
        logprobs = self.policy.head.logprobs(states, tokens[answer_mask], self.config.sampling.temperature)
        return masked_sum(spread_out(logprobs, answer_mask), answer_mask).view(2, -1).T


def _share_ordered(ratios: Tensor, p_chosen: Tensor) -> float | None:
    """The share of pairs with a winner whose chosen answer has the larger of the log-ratios (N, 2)."""
    untied = ratios[p_chosen != 0.5]
    return float((untied[:, 0] > untied[:, 1]).float().mean()) if len(untied) else None
