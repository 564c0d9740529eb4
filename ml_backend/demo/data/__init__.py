"""The demo model, its prompts and its training settings."""
