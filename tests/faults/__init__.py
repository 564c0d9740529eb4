"""The fault matrix: a running loop is killed, starved and damaged, and losses are counted: `make faults`."""
