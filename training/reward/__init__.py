"""Reward-model training: preference pairs in, a model that scores answers out."""
