"""Which prompts people are asked about again: after a newer version, after two bad answers, to keep answers waiting."""

from ml_backend.rounds.places import pairs_shown, round_of
from ml_backend.rounds.renewing import Rounds
from ml_backend.rounds.topping_up import runs_short, top_up, wanted

__all__ = ["Rounds", "pairs_shown", "round_of", "runs_short", "top_up", "wanted"]
