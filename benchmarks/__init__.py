"""Our speed against the usual ways, measured side by side: `make bench`."""
