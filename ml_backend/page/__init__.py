"""What people look at in a browser: the loop, its lines, their versions, and the buttons to steer them."""

from ml_backend.page.actions import Actions, Outcome, Question
from ml_backend.page.charts import Drawings
from ml_backend.page.facts import Facts
from ml_backend.page.forms import SESSION_COOKIE, Once, Sender, is_foreign, is_sealed, seal, session_from
from ml_backend.page.site import Asked, NotThereError, Server, Site

__all__ = [
    "SESSION_COOKIE",
    "Actions",
    "Asked",
    "Drawings",
    "Facts",
    "NotThereError",
    "Once",
    "Outcome",
    "Question",
    "Sender",
    "Server",
    "Site",
    "is_foreign",
    "is_sealed",
    "seal",
    "session_from",
]
