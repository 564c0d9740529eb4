"""How good a model is, how sure that is, and what it must show to go on."""
