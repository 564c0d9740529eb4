"""PPO's inputs: every prompt gets its turn, and seeds depend on all their parts."""

from __future__ import annotations

from training.ppo.inputs import prompts_of, seed_of


def test_every_prompt_has_its_turn() -> None:
    """With ten prompts and four per iteration, five iterations answer each exactly twice, in a new order each time."""
    walked = [prompt for iteration in range(5) for prompt in prompts_of(iteration, 4, 10, seed=0)]
    assert sorted(walked[:10]) == sorted(walked[10:]) == list(range(10))
    assert walked[:10] != walked[10:]


def test_an_iteration_larger_than_the_data_repeats_prompts() -> None:
    """Drawing seven of three prompts takes each of them twice and one a third time."""
    chosen = prompts_of(0, 7, 3, seed=0)
    assert sorted(chosen.count(prompt) for prompt in range(3)) == [2, 2, 3]


def test_the_prompts_of_an_iteration_depend_on_the_iteration_and_the_seed_alone() -> None:
    """The same seed gives the same prompts, another seed different ones."""
    assert prompts_of(3, 8, 100, seed=1) == prompts_of(3, 8, 100, seed=1)
    assert prompts_of(3, 8, 100, seed=1) != prompts_of(3, 8, 100, seed=2)


def test_seeds_are_distinct_and_fit() -> None:
    """No two of a thousand combinations share a seed, and adjacent parts stay distinct."""
    seeds = {seed_of(0, "answers", iteration, row) for iteration in range(10) for row in range(100)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of(1, 11) != seed_of(11, 1)
