"""The champion at work: loaded, swapped, asked through one queue, its answers laid out for Label Studio."""
