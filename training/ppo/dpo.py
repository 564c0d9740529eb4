"""Direct preference optimisation: the policy learns from people's votes, without a reward model in between.

It goes through the same iterations as PPO. Each samples a batch of answers too, but only to watch the policy: KL,
variety and score are measured as for the other algorithms, and the same bounds hold.

Reference: Rafailov et al. 2023 (2305.18290).

Legend: B pairs, S tokens of the longest prompt with its answer, T tokens of the longest answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from training.config import PPOConfig
from training.data import Preference, PromptRecord, Split, split_of
from training.errors import DataError, DivergedError
from training.models import PolicyWithValue, RewardModel, TextCodec, pad_right, sequences_of
from training.objectives import dpo_loss, masked_sum
from training.ppo.baseline import Baseline
from training.ppo.diagnostics import point_of
from training.ppo.inputs import prompts_of
from training.ppo.report import PPOPoint
from training.ppo.step import PPOStep
from training.ppo.update import UpdateStats
from training.sampling import Reference, answer_hidden, spread_out


class DPOStep(PPOStep):
    """One iteration of DPO.

    Args:
        preferences: of all splits; those of the training split are learned from.
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
        self._pairs = [pair for pair in preferences if split_of(pair.prompt) is Split.TRAIN]
        if not self._pairs:
            raise DataError(
                "there is no preference to train on",
                got=f"{len(preferences)} preferences, none of whose prompts is in the training split",
            )
        asked = [pair.prompt for pair in self._pairs]
        longest = policy.base.max_positions
        self._chosen_ids = sequences_of(codec, asked, [pair.chosen for pair in self._pairs], longest)
        self._rejected_ids = sequences_of(codec, asked, [pair.rejected for pair in self._pairs], longest)
        self._votes = torch.tensor([float(pair.votes) for pair in self._pairs])
        self._references: Tensor | None = None

    def take(self, iteration: int, kl_coefficient: float, baseline: Baseline) -> PPOPoint:  # noqa: ARG002
        """Learn from one batch of pairs; arguments, result and errors as for `PPOStep.take`."""
        rollout = self._roll_out(iteration)
        rewards = self._rewards(rollout, iteration, baseline)
        stats = self._learn(iteration)
        return point_of(iteration, rollout, rewards, torch.zeros_like(rollout.values), stats, 0.0, self.config)

    def _learn(self, iteration: int) -> UpdateStats:
        """One pass over the iteration's pairs."""
        config, losses, norms = self.config, [], []
        rows = torch.tensor(prompts_of(iteration, config.prompts_per_iteration, len(self._pairs), config.seed))
        weights = self._votes / self._votes.mean()
        p_chosen = torch.tensor([pair.p_chosen for pair in self._pairs])
        references = self._reference_logprobs()
        for index in torch.split(rows, config.minibatch_size):
            self.optimizer.zero_grad(set_to_none=True)
            loss = 0.0
            for part in torch.split(index, max(1, (config.micro_batch_size or 2 * len(index)) // 2)):
                with self._computing():
                    ratios = self._logprobs(part, None) - references[part].to(self.policy.base.device)
                aims = p_chosen[part].to(ratios.device), weights[part].to(ratios.device)
                share = dpo_loss(ratios[:, 0], ratios[:, 1], aims[0], config.dpo_beta, aims[1]) * len(part) / len(index)
                share.backward()  # type: ignore[no-untyped-call]
                loss += float(share.detach())
            norm = float(torch.nn.utils.clip_grad_norm_(self.policy.parameters(), config.max_grad_norm))
            if not math.isfinite(loss + norm):
                raise DivergedError("the loss or its gradient is NaN or infinite", got=loss)
            self.optimizer.step()
            losses.append(loss)
            norms.append(norm)
        self.policy.settle()
        return UpdateStats(
            policy_loss=sum(losses) / len(losses),
            value_loss=0.0,
            clip_share=0.0,
            first_ratio_gap=0.0,
            ratio_min=1.0,
            ratio_max=1.0,
            gradient_norm=sum(norms) / len(norms),
        )

    def _reference_logprobs(self) -> Tensor:
        """log pi_ref(y|x) (n_pairs, 2) of every chosen and rejected answer, computed once."""
        if self._references is None:
            every = torch.arange(len(self._pairs))
            with torch.no_grad(), self._computing():
                parts = [self._logprobs(index, self._reference) for index in torch.split(every, 32)]
            self._references = torch.cat(parts).cpu()
        return self._references

    def _logprobs(self, index: Tensor, reference: Reference | None) -> Tensor:
        """log pi(y|x) (B, 2) of the chosen and the rejected answers, by the policy or by a reference."""
        pairs = [self._chosen_ids[row] for row in index.tolist()] + [self._rejected_ids[row] for row in index.tolist()]
        device, base = self.policy.base.device, self.policy.base
        ids, mask = (part.to(device) for part in pad_right([[*p, *a] for p, a in pairs], self._codec.pad_id))
        tokens, answer_mask = (part.to(device) for part in pad_right([a for _, a in pairs], self._codec.pad_id))
        starts = torch.tensor([len(p) - 1 for p, _ in pairs], device=device)
        context = base.context(mask)
        depths = {self.policy.depth, base.n_layers} if reference and reference.top is None else {self.policy.depth}
        found = base.activations(ids, context, depths)
        top: Any = self.policy if reference is None else reference.top
        hidden = base.norm(found[base.n_layers]) if top is None else top(found[self.policy.depth], context)
        states = answer_hidden(hidden, starts, answer_mask)
        logprobs = self.policy.head.logprobs(states, tokens[answer_mask], self.config.sampling.temperature)
        return masked_sum(spread_out(logprobs, answer_mask), answer_mask).view(2, -1).T
