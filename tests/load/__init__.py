"""Load on one real server, as many annotators and their Label Studio put it there: `make load`."""
