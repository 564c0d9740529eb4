"""The pages that people look at, over HTTP: addresses, headers, and forms that no other site can send."""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

from flask import Blueprint, Response, request

from ml_backend.errors import EdgeError, OverloadError
from ml_backend.http.admission import Admission
from ml_backend.http.edge import login, note
from ml_backend.page import (
    SESSION_COOKIE,
    Actions,
    Asked,
    Drawings,
    NotThereError,
    Once,
    Outcome,
    Sender,
    Site,
    is_foreign,
    is_sealed,
    seal,
    session_from,
)
from ml_backend.settings import Settings
from training.errors import RankloopError

VIEWERS_AT_ONCE = 4
"""Pages take milliseconds; more than these at once means that a database hangs."""
CHARTS_AT_ONCE = 10
"""One is drawn at a time, once; a browser asks for six at a time."""
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",  # without a referrer, browsers don't say where a form comes from either
}
CHART_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox",
    "Cache-Control": "private, max-age=86400",  # its address changes with its content
}
_OF_LINES = "any(train, pause, resume, rollback)"
_EXPIRED = "This form is old, or wasn't made by this page for you. Nothing was done. Ask again and confirm."
_UNKNOWN_HOST = (
    "<!doctype html><title>rankloop</title><p>Without BASIC_AUTH_USER and BASIC_AUTH_PASS, these pages are for this "
    "machine: open them as http://localhost with the server's port, or set both."
)
_FOREIGN = "This form came from another site. Nothing was done."

logger = logging.getLogger(__name__)


class Pages:
    """Answers requests for pages.

    Args:
        site: renders them.
        actions: what people can do there.
        hosts: what this server may be called, besides what the request says.
        only_hosts: the host names under which pages are answered; None answers under any. Without a login, that keeps
            out sites whose name leads to this machine.
    """

    def __init__(
        self, site: Site, actions: Actions, hosts: tuple[str, ...], only_hosts: frozenset[str] | None = None
    ) -> None:
        self._site = site
        self._actions = actions
        self._hosts = hosts
        self._only_hosts = only_hosts
        self._drawings = Drawings()
        self._once: Once[Outcome] = Once()
        self._viewing = Admission(at_once=VIEWERS_AT_ONCE, patience_s=1.0)
        self._drawing = Admission(at_once=CHARTS_AT_ONCE, patience_s=1.0)

    def blueprint(self) -> Blueprint:
        """All addresses but `/`, which answers programs too."""
        pages = Blueprint("page", __name__)
        for kind in (NotThereError, RankloopError):
            pages.register_error_handler(kind, self._failed)
        pages.before_request(self._check_host)
        for rule, view in (
            ("/lines/<name>", self.line),
            ("/versions/<name>", self.version),
            ("/<any(lines, versions):kind>/<name>/charts/<chart>.svg", self.chart),
            ("/page/<name>", self.file),
        ):
            pages.add_url_rule(rule, view.__name__, view, methods=["GET"])
        for rule in (
            f"/lines/<target>/<{_OF_LINES}:kind>",
            "/versions/<target>/<any(promote):kind>",
            "/cycles/<target>/<any(cancel):kind>",
        ):
            pages.add_url_rule(rule, "confirm", self.confirm, methods=["GET"])
            pages.add_url_rule(rule, "act", self.act, methods=["POST"])
        return pages

    def home(self) -> Response:
        """GET / for browsers."""
        if refused := self._check_host():
            return refused
        with self._viewing.admitted():
            return _page(self._site.home(_asked()))

    def line(self, name: str) -> Response:
        """GET /lines/NAME."""
        with self._viewing.admitted():
            return _page(self._site.line(name, _asked()))

    def version(self, name: str) -> Response:
        """GET /versions/NAME."""
        with self._viewing.admitted():
            return _page(self._site.version(name, _asked()))

    def chart(self, kind: str, name: str, chart: str) -> Response:
        """GET /lines/NAME/charts/CHART.svg and /versions/NAME/charts/CHART.svg."""
        with self._drawing.admitted():
            svg = self._drawings.svg(self._site.chart(kind, name, chart))
        return Response(svg, content_type="image/svg+xml", headers=CHART_HEADERS)

    def file(self, name: str) -> Response:
        """GET /page/NAME: the style sheet and the icon."""
        content, kind = self._site.file(name)
        return Response(content, content_type=kind, headers={"Cache-Control": "private, max-age=300"})

    def confirm(self, kind: str, target: str) -> Response:
        """GET the question before an action."""
        with self._viewing.admitted():
            question = self._actions.ask(kind, target)
            session = session_from(request.cookies.get(SESSION_COOKIE))
            sealed = seal(Sender(session, login()), question.action, question.expected)
            answer = _page(self._site.confirm(question, sealed, _asked()))
        answer.set_cookie(
            SESSION_COOKIE, session, secure=_is_encrypted(), httponly=True, samesite="Strict",
            path=request.script_root or "/",
        )  # fmt: skip
        return answer

    def act(self, kind: str, target: str) -> Response:
        """POST an action that was confirmed."""
        hosts = (request.host, *self._hosts)
        if is_foreign(request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site"), hosts):
            return self._fault("Refused", _FOREIGN, "/", 403)
        sender = Sender(request.cookies.get(SESSION_COOKIE, ""), login())
        once, token, expected = (request.form.get(name, "") for name in ("once", "token", "expected"))
        if not is_sealed(sender, f"{kind} {target}", expected, once, token):
            return self._fault("Nothing was done", _EXPIRED, request.path, 403)
        with self._viewing.admitted():
            outcome, before = self._once(once, lambda: self._actions.do(kind, target, expected))
        note(action=kind, outcome="done" if outcome.done else "unchanged")
        return _page(self._site.outcome(outcome, before, _asked()), 200 if outcome.done or before else 409)

    def _check_host(self) -> Response | None:
        if self._only_hosts is None or urlsplit(f"//{request.host}").hostname in self._only_hosts:
            return None
        return _page(_UNKNOWN_HOST, 403)

    def _failed(self, error: NotThereError | RankloopError) -> Response:
        """Say on a page what couldn't be shown or done."""
        if isinstance(error, NotThereError):
            title = "It can't be shown" if error.is_passing else "There is no such page"
            return self._fault(title, str(error), "/", 503 if error.is_passing else 404)
        logger.warning("a page can't do what it was asked for: %s", error)
        is_passing = isinstance(error, EdgeError | OverloadError) and error.got is None
        return self._fault("That didn't work", str(error), "/", 503 if is_passing else 404)

    def _fault(self, title: str, sentence: str, back: str, status: int) -> Response:
        return _page(self._site.fault(title, sentence, back, _asked()), status)


def pages_for(settings: Settings, site: Site, actions: Actions) -> Pages:
    """The pages as settings want them."""
    public = urlsplit(settings.public_url())
    own = None
    if not settings.basic_auth_user and not settings.allow_open:
        own = frozenset({"localhost", "127.0.0.1", "::1", settings.host.strip("[]"), public.hostname or ""})
    return Pages(site, actions, (public.netloc,), own)


def _page(html: str, status: int = 200) -> Response:
    return Response(html, status, PAGE_HEADERS, content_type="text/html; charset=utf-8")


def _asked() -> Asked:
    """Links are relative, so that pages work below any path that a proxy puts before theirs."""
    return Asked("/".join([".."] * (request.path.count("/") - 1)) or ".", request.args.to_dict())


def _is_encrypted() -> bool:
    return request.is_secure or request.headers.get("X-Forwarded-Proto") == "https"
