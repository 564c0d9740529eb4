"""The ML backend over HTTP, as Label Studio speaks it."""
