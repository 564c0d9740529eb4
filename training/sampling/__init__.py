"""Answers sampled from a model, and what policy, reference and reward model say of them."""
