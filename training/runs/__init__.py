"""A training run on disk: its folder, checkpoints, progress, curves, and the learning rate over its steps."""
