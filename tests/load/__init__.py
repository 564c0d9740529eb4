"""Load on one real server, as from many annotators and their Label Studio: `make load`."""
