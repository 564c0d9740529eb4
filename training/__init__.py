"""The learning core: preferences, reward model, PPO. Knows nothing of Label Studio, MLflow, HTTP or the environment."""
