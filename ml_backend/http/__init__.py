"""The ML backend's HTTP interface, in Label Studio's protocol."""

from ml_backend.http.serve import run_server

__all__ = ["run_server"]
