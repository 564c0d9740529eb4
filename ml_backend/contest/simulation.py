"""How often a contest decides rightly, and after how many pairs, by drawing verdicts at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ml_backend.contest.wealth import ALPHA, Array, log_wealth_path


@dataclass(frozen=True, slots=True)
class Simulated:
    """What became of many contests with the same truth.

    share: the challenger's true share, a tie counting half.
    ties: the share of ties among the verdicts.
    promoted, worse, undecided: shares of contests that ended so.
    median, ninth_decile: after how many pairs half and 90% of all contests had promoted; None if they never had.
    """

    share: float
    ties: float
    repetitions: int
    most_pairs: int
    promoted: float
    worse: float
    undecided: float
    median: int | None
    ninth_decile: int | None


def simulate(
    share: float,
    *,
    ties: float = 0.1,
    repetitions: int = 1000,
    most_pairs: int = 300,
    alpha: float = ALPHA,
    seed: int = 0,
) -> Simulated:
    """Run contests whose verdicts are independent draws, looking after each pair and stopping at the first decision.

    Raises:
        ValueError: no verdicts have that share of wins and ties.
    """
    wins = share - ties / 2
    if not (0 <= ties <= 1 and 0 <= wins <= 1 - ties):
        raise ValueError(f"no verdicts have a share of {share} with {ties} ties")
    drawn = np.random.default_rng(seed).random((repetitions, most_pairs))
    scores = np.where(drawn < wins, 1.0, np.where(drawn < wins + ties, 0.5, 0.0))
    never = most_pairs + 1
    enough = -np.log(alpha)
    better, worse = (_first(log_wealth_path(side) >= enough, never) for side in (scores, 1 - scores))
    promoted = (better < worse) & (better < never)
    rejected = (worse < better) & (worse < never)
    after = np.sort(np.where(promoted, better, never))
    median, ninth = (int(after[int(np.ceil(part * repetitions)) - 1]) for part in (0.5, 0.9))
    return Simulated(
        share,
        ties,
        repetitions,
        most_pairs,
        promoted=float(promoted.mean()),
        worse=float(rejected.mean()),
        undecided=float(1 - promoted.mean() - rejected.mean()),
        median=median if median < never else None,
        ninth_decile=ninth if ninth < never else None,
    )


def _first(hits: Array, never: int) -> Array:
    """For each row the number of the first hit, counted from 1; `never` if there is none."""
    return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, never)
