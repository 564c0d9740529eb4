"""What people are asked again, after a newer version, two bad answers or by lot; and how answers are kept waiting."""

from ml_backend.rounds.places import pairs_shown, round_of
from ml_backend.rounds.renewing import Rounds
from ml_backend.rounds.repeats import repeat_prediction
from ml_backend.rounds.topping_up import runs_short, top_up, wanted

__all__ = ["Rounds", "pairs_shown", "repeat_prediction", "round_of", "runs_short", "top_up", "wanted"]
