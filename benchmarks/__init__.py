"""Rankloop's speed compared with the usual libraries, measured side by side: `make bench`."""
