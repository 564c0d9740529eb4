"""Label Studio behind a certificate of its own, and with a clock that differs from this machine's."""

from __future__ import annotations

import ipaddress
import ssl
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fake_label_studio import Answer, fake_label_studio

from ml_backend.errors import LabelStudioError
from ml_backend.label_studio.client import LabelStudio
from training.errors import ConfigError

KEY = "0123456789abcdef0123456789abcdef01234567"
OWNER = (200, {"id": 1, "email": "ada@example.com"})
WHOAMI = "GET /api/current-user/whoami"


def _certificate(folder: Path, address: str) -> tuple[ssl.SSLContext, Path]:
    """A self-signed certificate for an address, as a server's context, and the file with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "label-studio")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "label-studio.pem", folder / "key.pem"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return context, public


def test_a_self_signed_certificate_is_named_and_can_be_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what is wrong with it and what to set; with that set, the server is asked."""
    context, public = _certificate(tmp_path, "127.0.0.1")
    with fake_label_studio(context) as fake:
        fake.on(WHOAMI, OWNER)
        with LabelStudio(fake.url, KEY) as label_studio, pytest.raises(LabelStudioError) as caught:
            label_studio.whoami()
        assert "self-signed certificate" in str(caught.value)
        assert "SSL_CERT_FILE" in str(caught.value)
        monkeypatch.setenv("SSL_CERT_FILE", str(public))
        with LabelStudio(fake.url, KEY) as label_studio:
            assert label_studio.whoami() == "ada@example.com"


def test_a_certificate_for_another_address_needs_another_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trusting it wouldn't help: the address has to be the one in the certificate."""
    context, public = _certificate(tmp_path, "192.0.2.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(public))
    with fake_label_studio(context) as fake, LabelStudio(fake.url, KEY) as label_studio:
        with pytest.raises(LabelStudioError, match="LABEL_STUDIO_URL") as caught:
            label_studio.whoami()
        assert "IP address mismatch" in str(caught.value)
        assert "SSL_CERT_FILE" not in str(caught.value)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_certificates_that_cannot_be_read_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    """A missing file and one that holds no certificate: one sentence with the variable, no traceback."""
    path = tmp_path / "ca.pem"
    if content:
        path.write_text(content, encoding="utf-8")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
        LabelStudio("https://localhost:1", KEY)


@pytest.mark.parametrize("ahead_s", [-3600, 3600])
def test_a_clock_an_hour_off_keeps_nobody_out(ahead_s: float) -> None:
    """Label Studio's clock is an hour ahead of ours or behind; its tokens for a personal access token last 5 minutes.

    Ahead: what it refuses as outdated still looks valid here, so it is replaced when refused. Behind: what is valid
    there looks outdated here, and is replaced each time.
    """
    key = jwt.encode({"exp": int(time.time()) + 86_400, "token_type": "refresh"}, "s" * 32)
    issued: list[str] = []
    good: set[str] = set()

    def refresh(_: object) -> Answer:
        expires = int(time.time() + ahead_s) + 300
        issued.append(jwt.encode({"exp": expires, "n": len(issued), "token_type": "access"}, "s" * 32))
        good.add(issued[-1])
        return 200, {"access": issued[-1]}

    with fake_label_studio() as fake:
        fake.answers["POST /api/token/refresh/"] = refresh
        fake.answers[WHOAMI] = lambda _: OWNER if fake.keys[-1].removeprefix("Bearer ") in good else (401, {})
        with LabelStudio(fake.url, key) as label_studio:
            assert label_studio.whoami() == "ada@example.com"
            good.clear()  # five minutes later
            assert label_studio.whoami() == "ada@example.com"
    assert 2 <= len(issued) <= 4


def test_a_key_that_is_really_refused_is_not_tried_for_ever() -> None:
    """A revoked personal access token: one more try, then the remedy."""
    key = jwt.encode({"exp": int(time.time()) + 86_400, "token_type": "refresh"}, "s" * 32)
    access = jwt.encode({"exp": int(time.time()) + 300, "token_type": "access"}, "s" * 32)
    with fake_label_studio() as fake:
        fake.on("POST /api/token/refresh/", (200, {"access": access}))
        fake.on(WHOAMI, (401, {"detail": "No."}))
        with LabelStudio(fake.url, key) as label_studio, pytest.raises(LabelStudioError, match="API_KEY"):
            label_studio.whoami()
        assert fake.times(WHOAMI) == 2
