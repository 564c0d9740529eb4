"""What makes PyTorch fast on a CPU where a measurement says it pays, and which number format to compute in."""
