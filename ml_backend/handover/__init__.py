"""What leaves rankloop: versions as folders for Transformers or on the hub, and judgements as other tools read them."""

from ml_backend.handover.data import Exported, export_line
from ml_backend.handover.hub import Hub
from ml_backend.handover.models import download, push

__all__ = ["Exported", "Hub", "download", "export_line", "push"]
