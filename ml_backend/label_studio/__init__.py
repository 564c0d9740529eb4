"""The part of Label Studio's HTTP API that the loop needs. No other package calls Label Studio.

Every request has a timeout, idempotent ones are retried, and a refusal is a LabelStudioError that says what to do.
"""

from ml_backend.label_studio.client import LabelStudio, open_label_studio
from ml_backend.label_studio.connection import (
    HOST_NAME_REMEDY,
    BackendAddress,
    choose_project,
    connected_projects,
    connection_of,
    connections,
    has_single_label_host,
    projects_showing,
    same_url,
    webhook_is_right,
)
from ml_backend.label_studio.credentials import SECRET_HEADER, Guard, refuse_open_bind
from ml_backend.label_studio.records import Connection, Project, Webhook
from ml_backend.label_studio.refusals import BACKEND_AUTH_REMEDY, BACKEND_REMEDY
from ml_backend.label_studio.setup import init_project, reconnect

__all__ = [
    "BACKEND_AUTH_REMEDY",
    "BACKEND_REMEDY",
    "HOST_NAME_REMEDY",
    "SECRET_HEADER",
    "BackendAddress",
    "Connection",
    "Guard",
    "LabelStudio",
    "Project",
    "Webhook",
    "choose_project",
    "connected_projects",
    "connection_of",
    "connections",
    "has_single_label_host",
    "init_project",
    "open_label_studio",
    "projects_showing",
    "reconnect",
    "refuse_open_bind",
    "same_url",
    "webhook_is_right",
]
