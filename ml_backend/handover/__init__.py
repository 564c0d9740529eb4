"""What leaves rankloop: a version as a folder for Transformers, with a model card, here or on the Hugging Face hub."""

from ml_backend.handover.hub import Hub
from ml_backend.handover.models import download, push

__all__ = ["Hub", "download", "push"]
