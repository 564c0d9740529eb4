"""The critic: what it expects before and after it has learned, and that it never looks ahead."""

from __future__ import annotations

import dataclasses

import torch
from tiny_models import EOS, nudge, tiny_rotary

from training.models import PolicyWithValue, Probe, RewardModel, Site
from training.ppo.critic import Critic, features_of
from training.sampling import Rollout, Samples, respond

PROMPTS = [[1, 2, 3], [1, 2, 3], [4, 5], [4, 5]]
ANSWERS = [[9, 10, 7, EOS], [11, 12, EOS], [12, 13, 14, 15], [16, EOS]]  # the third is truncated
SITES = (Site(1, "last"), Site(1, "mean"), Site(3, "mean"))


def _reward_model() -> RewardModel:
    base = tiny_rotary(n_layer=3)
    probe = Probe(SITES, base.config.hidden_size, heads=2, judges=1)
    nudge([probe.weight, probe.center], seed=5)
    return RewardModel(base, 0, probe=probe)


def _rollout(reward_model: RewardModel, answers: list[list[int]]) -> Rollout:
    width = max(map(len, answers))
    mask = torch.arange(width) < torch.tensor([len(answer) for answer in answers])[:, None]
    tokens = torch.tensor([[*answer, *[0] * (width - len(answer))] for answer in answers])
    samples = Samples(tokens, mask, torch.tensor([answer[-1] == EOS for answer in answers]))
    policy = PolicyWithValue(reward_model.base.model)
    return respond(policy, reward_model, PROMPTS, samples, eos_id=EOS, temperature=1.0, batch=3)


def _features(rollout: Rollout, rewards: torch.Tensor) -> torch.Tensor:
    return features_of(rollout, rewards, answers=2, spread=0.5, tokens=4.0)


def test_the_score_so_far_is_the_probes_of_the_answer_cut_there() -> None:
    """Before each token it is the ensemble's score of the tokens that came before it, and 0 before the first."""
    reward_model = _reward_model()
    rollout = _rollout(reward_model, ANSWERS)
    assert torch.equal(rollout.so_far[:, 0], torch.zeros(4))
    for row, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
        for length in range(1, len(answer)):
            ids = torch.tensor([prompt + answer[:length]])
            cut = reward_model.score(ids, torch.ones_like(ids, dtype=torch.bool), torch.tensor([len(prompt) - 1]))
            torch.testing.assert_close(rollout.so_far[row, length], cut[0], rtol=0, atol=1e-5)
        assert not rollout.so_far[row, len(answer) :].any()


def test_without_a_probe_there_is_no_score_so_far() -> None:
    """A reward model of own layers alone leaves it at 0, and the critic has the other answers and the length."""
    base = tiny_rotary(n_layer=3)
    assert not _rollout(RewardModel.on_base(base, 0.7), ANSWERS).so_far.any()


def test_a_fresh_critic_expects_the_mean_of_the_other_answers() -> None:
    """Before it has learned anything, RLOO with a critic is RLOO."""
    rewards = torch.tensor([1.0, 3.0, -2.0, 0.5])
    values = Critic().values(_features(_rollout(_reward_model(), ANSWERS), rewards))
    torch.testing.assert_close(values, torch.tensor([3.0, 1.0, 0.5, -2.0])[:, None].expand(4, 4))


def test_nothing_that_comes_later_is_known() -> None:
    """What is known before a token is the same whichever tokens follow."""
    reward_model, rewards = _reward_model(), torch.tensor([1.0, 3.0, -2.0, 0.5])
    changed = [[*answer[:-1], 21] for answer in ANSWERS]
    first, second = (_features(_rollout(reward_model, answers), rewards) for answers in (ANSWERS, changed))
    for row, answer in enumerate(ANSWERS):
        torch.testing.assert_close(first[row, : len(answer)], second[row, : len(answer)], rtol=0, atol=1e-6)


def test_an_answers_own_reward_is_not_known() -> None:
    """Another reward changes what is known of the other answer to the same prompt, not of the answer itself."""
    rollout = _rollout(_reward_model(), ANSWERS)
    first, second = (_features(rollout, torch.tensor([own, 3.0, -2.0, 0.5])) for own in (1.0, 5.0))
    assert torch.equal(first[[0, 2, 3]], second[[0, 2, 3]])
    assert not torch.equal(first[1], second[1])


def test_it_learns_what_the_score_so_far_is_worth() -> None:
    """Rewards that are a sum of what is known are expected nearly exactly after a thousand answers."""
    rollout, critic = _rollout(_reward_model(), ANSWERS), Critic()
    generator = torch.Generator().manual_seed(0)
    weights = torch.tensor([0.5, 0.0, -1.0, 0.3, 0.2, 2.0, 0.0], dtype=torch.float64)
    for _ in range(250):
        so_far = torch.randn(4, 1, generator=generator).expand(4, 4)
        features = _features(dataclasses.replace(rollout, so_far=so_far), torch.randn(4, generator=generator))
        features = features[:, 2:3].expand(4, 4, 7)  # one state for each answer, so that its reward is determined
        critic.learn(features, rollout.answer_mask, features[:, 0] @ weights)
    expected = critic.values(features).double()
    torch.testing.assert_close(expected, features @ weights, rtol=0, atol=0.1)


def test_it_survives_a_checkpoint() -> None:
    """A restored critic expects the same."""
    rollout, rewards, critic = _rollout(_reward_model(), ANSWERS), torch.tensor([1.0, 3.0, -2.0, 0.5]), Critic()
    features = _features(rollout, rewards)
    critic.learn(features, rollout.answer_mask, rewards)
    assert torch.equal(Critic.restored(critic.state()).values(features), critic.values(features))
    assert not torch.equal(critic.values(features), Critic().values(features))
