"""What people said, as training reads it: judgements, preferences, prompts, demonstrations, and their files."""
