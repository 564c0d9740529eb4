"""Somebody who reads pages and sends their forms, through Flask's test client."""

from __future__ import annotations

import base64
import re
from html import unescape

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

ACCEPT = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
"""As Chromium and Firefox send it."""


class Reader:
    """Somebody with a browser, logged in."""

    def __init__(self, client: FlaskClient, login: str = "ann:secret") -> None:
        self.client = client
        self.headers = {"Accept": ACCEPT, "Authorization": "Basic " + base64.b64encode(login.encode()).decode()}

    def get(self, path: str) -> TestResponse:
        """Open a page."""
        return self.client.get(path, headers=self.headers)

    def text(self, path: str) -> str:
        """What a page says, without its markup; spaces are single."""
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        return words(answer.text)

    def form(self, path: str) -> dict[str, str]:
        """The hidden fields of the form on a page."""
        page = self.get(path).text
        found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page)
        return {name: unescape(value) for name, value in found}

    def send(self, path: str, form: dict[str, str], **headers: str) -> TestResponse:
        """Send a form as a browser does that opened it on this server."""
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        given = {**self.headers, "Origin": "http://localhost", "Sec-Fetch-Site": "same-origin", **said}
        sent = {name: value for name, value in given.items() if value}
        return self.client.post(path, data=form, headers=sent)


def words(html: str) -> str:
    """The text of a page."""
    body = html.partition("<body>")[2] or html
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())
