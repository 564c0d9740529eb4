"""Text to tokens, and models taken apart: backbone, policy with value head, reward model."""
