"""The connection to Label Studio: login, timeouts, retries, errors. The only importer of label_studio_sdk."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Self, TypeVar

import httpx
from label_studio_sdk import LabelStudio as Client
from label_studio_sdk.core.api_error import ApiError
from label_studio_sdk.core.parse_error import ParsingError
from label_studio_sdk.core.request_options import RequestOptions
from label_studio_sdk.types import ImportApiRequest, PredictionRequest

from ml_backend.errors import LabelStudioError
from ml_backend.label_studio.refusals import KEY_REMEDY, refused, unreachable

__all__ = ["BULK_TIMEOUT_S", "ImportApiRequest", "PredictionRequest", "Session", "again", "once"]

Result = TypeVar("Result")

RETRIES = 3
BULK_TIMEOUT_S = 600.0


def again(timeout_s: float | None = None) -> RequestOptions:
    """Options for an idempotent request: retried with backoff on a failed connection, on 429 and on 5xx."""
    return _options(RETRIES, timeout_s)


def once(timeout_s: float | None = None) -> RequestOptions:
    """Options for a request that must not be sent twice, because it adds something."""
    return _options(0, timeout_s)


def _options(retries: int, timeout_s: float | None) -> RequestOptions:
    return {"max_retries": retries} if timeout_s is None else {"max_retries": retries, "timeout": timeout_s}


class Session:
    """A connection to one Label Studio server.

    Args:
        url: its address, for instance `http://localhost:8080`; a path prefix is kept.
        api_key: a personal access token (exchanged and refreshed as needed) or a legacy token.
        timeout_s: for ordinary requests; bulk requests get `BULK_TIMEOUT_S`.

    Raises:
        LabelStudioError: the key is empty or expired. Nothing is sent yet.
    """

    def __init__(self, url: str, api_key: str, *, timeout_s: float = 30) -> None:
        self.url = url.rstrip("/")
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log every request with its full query
        if not api_key.strip():
            raise LabelStudioError("the API key for Label Studio is empty", remedy=KEY_REMEDY)
        self._http = httpx.Client(timeout=timeout_s, follow_redirects=True)
        self._sdk = self._call(
            "accept the key",
            # the SDK joins addresses with urljoin, which drops a path prefix that doesn't end in a slash
            lambda: Client(  # type: ignore[no-untyped-call]
                base_url=self.url + "/", api_key=api_key.strip(), httpx_client=self._http, timeout=timeout_s
            ),
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def release(self) -> str:
        """The server's version, for instance `1.23.2`."""
        return str(self._call("report its version", lambda: self._sdk.versions.get(request_options=again())).release)

    def whoami(self) -> str:
        """The e-mail address of the key's owner."""
        user = self._call("identify the key's owner", lambda: self._sdk.users.whoami(request_options=again()))
        return str(user.email)

    def _call(self, doing: str, request: Callable[[], Result]) -> Result:
        """Run `request`, with errors a person can read. `doing` completes "Label Studio refused to ..."."""
        try:
            return request()
        except ApiError as error:
            raise refused(doing, error.status_code, error.body, self.url) from error
        except (ParsingError, ValueError) as error:  # ValueError: the response isn't JSON
            raise refused(doing, None, str(error)[:200], self.url) from error
        except httpx.TimeoutException as error:
            raise unreachable(doing, "", self.url, timed_out=True) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unreachable(doing, str(error), self.url) from error
