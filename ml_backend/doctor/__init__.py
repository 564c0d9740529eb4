"""`rankloop doctor`: checks every part of the loop and says how to fix what is wrong."""

from ml_backend.doctor.examination import examine
from ml_backend.doctor.findings import Verdict

__all__ = ["Verdict", "examine"]
