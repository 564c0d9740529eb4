"""`rankloop doctor`: every part of the loop examined, with what to do about what is wrong."""

from ml_backend.doctor.examination import examine
from ml_backend.doctor.findings import Verdict

__all__ = ["Verdict", "examine"]
