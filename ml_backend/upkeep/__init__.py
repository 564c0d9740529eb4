"""Keeping the data folder and the registry in order: pruning what is old, purging what somebody deleted."""

from ml_backend.upkeep.pruning import Pruned, prune
from ml_backend.upkeep.purging import Purged, purge
from ml_backend.upkeep.scrubbing import Wanted

__all__ = ["Pruned", "Purged", "Wanted", "prune", "purge"]
