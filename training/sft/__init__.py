"""Supervised training: maximum likelihood of answers that people wrote."""
