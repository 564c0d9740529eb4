"""The Hugging Face hub, to which folders are uploaded."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from ml_backend.errors import HubError
from training.errors import ConfigError, first_line

_REPLACED = ("*.safetensors", "*.safetensors.index.json")
"""Weights of an earlier upload, which may have been split into more files."""


class Hub:
    """The hub that `HF_ENDPOINT` names, as whoever is logged in there with the hub's own tools.

    Args:
        endpoint: another address of a hub.
        token: a token instead of the one that `hf auth login` stored, or `HF_TOKEN`.
    """

    def __init__(self, endpoint: str | None = None, token: str | None = None) -> None:
        self._endpoint = endpoint
        self._token = token

    def check(self, repository: str) -> None:
        """Find out what can be found out before anything is made ready.

        Raises:
            ConfigError: no repository can have this name.
            HubError: nobody is logged in.
        """
        from huggingface_hub import get_token
        from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # offered, though not listed

        try:
            validate_repo_id(repository)
        except ValueError as error:
            raise ConfigError(
                "a repository can't have this name", got=repository, expected="OWNER/NAME", remedy=first_line(error)
            ) from error
        if not (self._token or get_token()):
            raise HubError(
                "nobody is logged in at the Hugging Face hub",
                remedy="Run `hf auth login`, or set HF_TOKEN to a token that may write.",
            )

    def upload(self, folder: Path, repository: str, *, private: bool, message: str) -> str:
        """Upload a folder as one commit; the repository is created if there is none. Returns its address.

        Args:
            folder: a model folder.
            repository: `OWNER/NAME`.
            private: whether a new repository is only seen by its owner. One that exists stays as it is.
            message: what the commit says.

        Raises:
            HubError: the hub refuses, or can't be reached.
        """
        from huggingface_hub import HfApi

        hub = HfApi(endpoint=self._endpoint, token=self._token)
        try:
            address = hub.create_repo(repository, private=private, exist_ok=True)
            hub.upload_folder(
                repo_id=repository, folder_path=folder, commit_message=message, delete_patterns=list(_REPLACED)
            )
        except Exception as error:  # whatever the client's HTTP library raises comes through it
            _refuse(repository, error)
        return str(address)


def _refuse(repository: str, error: Exception) -> NoReturn:
    status = getattr(getattr(error, "response", None), "status_code", None)
    remedy = "Check the network, HF_ENDPOINT and HF_HUB_OFFLINE."
    if status in (401, 403):
        remedy = "The token must be allowed to write there: `hf auth login` stores another one."
    raise HubError(
        "the Hugging Face hub took no upload", got=repository, remedy=f"{remedy} ({first_line(error)})"
    ) from error
