"""The ML backend over HTTP, as Label Studio speaks it."""

from ml_backend.http.serve import run_server

__all__ = ["run_server"]
