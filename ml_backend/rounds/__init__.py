"""Which prompts people are asked about again: in a later round, after a newer version, or after two bad answers."""

from ml_backend.rounds.places import pairs_shown, round_of
from ml_backend.rounds.renewing import Rounds

__all__ = ["Rounds", "pairs_shown", "round_of"]
