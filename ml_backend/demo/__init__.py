"""`rankloop demo`: the whole loop, for real, with a simulated annotator."""
