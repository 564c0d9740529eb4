"""`rankloop demo`: the whole loop on real servers, with a simulated annotator."""

from ml_backend.demo.run import DemoOptions, run_demo
from ml_backend.demo.useful import prefer_useful

__all__ = ["DemoOptions", "prefer_useful", "run_demo"]
