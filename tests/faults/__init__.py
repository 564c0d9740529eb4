"""The fault matrix: a running loop is killed, starved and damaged, and what was lost is counted: `make faults`."""
