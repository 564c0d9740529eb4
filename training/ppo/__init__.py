"""Reinforcement learning of the policy against the reward model, held near the base by a KL penalty."""
