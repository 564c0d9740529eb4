"""What PPO is given: every prompt gets its turn, and seeds depend on all they should."""

from __future__ import annotations

from training.ppo.inputs import prompts_of, seed_of


def test_every_prompt_has_its_turn() -> None:
    """Ten prompts, four an iteration: five iterations answer each exactly twice, in another order each time."""
    walked = [prompt for iteration in range(5) for prompt in prompts_of(iteration, 4, 10, seed=0)]
    assert sorted(walked[:10]) == sorted(walked[10:]) == list(range(10))
    assert walked[:10] != walked[10:]


def test_an_iteration_larger_than_the_data_repeats_prompts() -> None:
    """Seven answers to three prompts: each twice, one of them three times."""
    chosen = prompts_of(0, 7, 3, seed=0)
    assert sorted(chosen.count(prompt) for prompt in range(3)) == [2, 2, 3]


def test_the_prompts_of_an_iteration_depend_on_the_iteration_and_the_seed_alone() -> None:
    """Asking again gives the same, another seed another walk."""
    assert prompts_of(3, 8, 100, seed=1) == prompts_of(3, 8, 100, seed=1)
    assert prompts_of(3, 8, 100, seed=1) != prompts_of(3, 8, 100, seed=2)


def test_seeds_are_distinct_and_fit() -> None:
    """No two of a thousand combinations share a seed, and parts don't run into one another."""
    seeds = {seed_of(0, "answers", iteration, row) for iteration in range(10) for row in range(100)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of(1, 11) != seed_of(11, 1)
