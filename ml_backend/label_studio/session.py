"""The connection to Label Studio: login, timeouts, retries, errors. The only importer of label_studio_sdk."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any, Self, TypeVar

import httpx
from label_studio_sdk import LabelStudio as Client
from label_studio_sdk.core.api_error import ApiError
from label_studio_sdk.core.parse_error import ParsingError
from label_studio_sdk.core.request_options import RequestOptions
from label_studio_sdk.types import ImportApiRequest, PredictionRequest
from label_studio_sdk.types import LseExportCreate as Export
from label_studio_sdk.types import LseTaskFilterOptionsRequest as TaskFilter

from ml_backend.errors import LabelStudioError
from ml_backend.label_studio.refusals import KEY_REMEDY, refused, unreachable, untrusted
from training.errors import ConfigError

__all__ = [
    "BULK_TIMEOUT_S",
    "Export",
    "ImportApiRequest",
    "PredictionRequest",
    "Session",
    "TaskFilter",
    "again",
    "once",
    "was_cut_off",
]

Result = TypeVar("Result")

RETRIES = 3
BULK_TIMEOUT_S = 600.0
LOOK_AHEAD = 300
ENOUGH = 5000


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
        look_ahead: how many of a project's open tasks are kept proposed for.
        enough: from how many new judgements on they needn't be counted exactly.

    Attributes:
        clock_ahead_s: by how much its clock is ahead of this machine's, as of the latest answer; None before that.

    Raises:
        LabelStudioError: the key is empty or expired. Nothing is sent yet.
        ConfigError: the certificates that SSL_CERT_FILE names can't be read.
    """

    def __init__(
        self, url: str, api_key: str, *, timeout_s: float = 30, look_ahead: int = LOOK_AHEAD, enough: int = ENOUGH
    ) -> None:
        self.url = url.rstrip("/")
        self.look_ahead = look_ahead
        self.enough = enough
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log every request with its full query
        if not api_key.strip():
            raise LabelStudioError("the API key for Label Studio is empty", remedy=KEY_REMEDY)
        self.clock_ahead_s: float | None = None
        self._http = _http_client(timeout_s)
        self._http.event_hooks["response"].append(self._read_clock)
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
            try:
                return request()
            except ApiError as error:
                if error.status_code != httpx.codes.UNAUTHORIZED or not self._forget_access_token():
                    raise
                return request()
        except ApiError as error:
            raise refused(doing, error.status_code, error.body, self.url) from error
        except (ParsingError, ValueError) as error:  # ValueError: the response isn't JSON
            raise refused(doing, None, str(error)[:200], self.url) from error
        except httpx.TimeoutException as error:
            raise unreachable(doing, "", self.url, timed_out=True) from error
        except httpx.ConnectError as error:
            certificate = _certificate_fault(error)
            raise (
                untrusted(doing, certificate, self.url) if certificate else unreachable(doing, str(error), self.url)
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unreachable(doing, str(error), self.url) from error

    def _read_clock(self, response: httpx.Response) -> None:
        """Note by how much Label Studio's clock is ahead of ours, to the second."""
        try:
            there = parsedate_to_datetime(response.headers.get("Date", ""))
        except ValueError:
            return
        self.clock_ahead_s = there.timestamp() - time.time()

    def _forget_access_token(self) -> bool:
        """Forget the short-lived token that stands for a personal access token. Returns whether there was one.

        The SDK asks this machine's clock whether it is still valid. If that is slow, Label Studio refuses a token that
        the SDK would go on sending for as long as the clocks differ.
        """
        sdk = getattr(self, "_sdk", None)  # not there yet if it refuses the key itself
        tokens: Any = sdk._client_wrapper._tokens_client if sdk is not None else None  # it offers no other way
        if getattr(tokens, "_access_token", None) is None:
            return False
        tokens._access_token = None
        return True


def was_cut_off(error: LabelStudioError) -> bool:
    """Whether a request reached a server but no complete answer came back: a gateway or a limit stands in between."""
    if error.status is not None:
        return error.status in {408, 413} or error.status >= 500
    cause = error.__cause__
    return isinstance(cause, httpx.HTTPError | ValueError) and not isinstance(
        cause, httpx.ConnectError | httpx.ConnectTimeout
    )


def _http_client(timeout_s: float) -> httpx.Client:
    try:
        return httpx.Client(timeout=timeout_s, follow_redirects=True)
    except (OSError, ValueError) as error:  # httpx reads the variable itself; SSLError is an OSError
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            "the certificates to trust can't be read",
            got=reason,
            remedy="Set SSL_CERT_FILE to a PEM file, or unset it.",
        ) from error


def _certificate_fault(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """The certificate's fault behind an error, if that is the reason."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error
        error = error.__cause__ or error.__context__
    return None
