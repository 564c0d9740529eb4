"""The files for a team's installation: what they name exists, and both scripts do what they say. No container runs."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from ml_backend.cli.app import app
from ml_backend.label_studio.connection import has_single_label_host
from ml_backend.settings import Settings, is_secret, load_settings, variable_of

ROOT = Path(__file__).parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = ("init", "server", "worker", "mlflow")
ODD = "p@ss:/?#[] %20'\"\\$(x)`y` ä"


def test_every_variable_that_compose_sets_is_read() -> None:
    """Each variable of our services is a setting, or the file of a secret one."""
    known = {variable_of(name, field) for name, field in Settings.model_fields.items()}
    known |= {f"{variable_of(name, field)}_FILE" for name, field in Settings.model_fields.items() if is_secret(field)}
    for name in OURS:
        assert set(SERVICES[name]["environment"]) <= known


def test_no_secret_stands_in_the_file() -> None:
    """Secrets are files: each that is used is defined, made by the script, and mounted where it is named."""
    script = (ROOT / "docker" / "make-secrets.sh").read_text(encoding="utf-8")
    made = re.search(r"for name in ([a-z_ ]+);", script)
    assert made
    assert set(COMPOSE["secrets"]) == set(made.group(1).split())
    for name, service in SERVICES.items():
        mounted = set(service.get("secrets", []))
        assert mounted <= set(COMPOSE["secrets"]), name
        for variable, value in service.get("environment", {}).items():
            if variable.endswith("_FILE"):
                assert value.removeprefix("/run/secrets/") in mounted, (name, variable)
            else:
                assert not re.search(r"PASS|SECRET|USER_TOKEN|API_KEY", variable), (name, variable)


def test_every_command_exists() -> None:
    """Our services run commands of the command line, server and worker apart, and the docs name only such commands."""
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    run = {name: SERVICES[name]["command"][1] for name in OURS}
    assert set(run.values()) <= commands
    assert (run["server"], run["worker"]) == ("serve", "worker")
    page = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    assert set(re.findall(r"exec server rankloop ([a-z-]+)", page)) <= commands


def test_services_restart_and_wait_for_what_they_need() -> None:
    """Everything but the job restarts by itself; server and worker start once it has ended well."""
    for name, service in SERVICES.items():
        assert service["restart"] == ("on-failure" if name == "init" else "unless-stopped")
        assert set(service.get("depends_on", {})) <= set(SERVICES)
    for name in ("server", "worker", "mlflow"):
        assert SERVICES[name]["depends_on"] == {"init": {"condition": "service_completed_successfully"}}
    for name in ("postgres", "label-studio"):
        assert SERVICES[name]["healthcheck"]["test"]


def test_label_studio_will_create_webhooks() -> None:
    """The backend's address has a dot in its host name, under which the server is known on the network."""
    url = SERVICES["server"]["environment"]["RANKLOOP_BACKEND_URL"]
    assert not has_single_label_host(url)
    assert SERVICES["server"]["networks"]["default"]["aliases"] == [re.sub(r"^http://|:\d+$", "", url)]


def test_only_label_studio_can_be_opened_to_the_network() -> None:
    """Every other port is published on loopback alone."""
    for name, service in SERVICES.items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:" if name != "label-studio" else "${LABEL_STUDIO_BIND:-127.0.0.1}:")


def test_the_databases_are_those_that_are_created() -> None:
    """Each database that an address names is created at PostgreSQL's first start."""
    created = set(re.findall(r"CREATE DATABASE (\w+)", (ROOT / "docker" / "create-databases.sql").read_text("utf-8")))
    environment = SERVICES["server"]["environment"]
    named = {environment[name].rpartition("/")[2] for name in ("RANKLOOP_DATABASE_URL", "RANKLOOP_MLFLOW_TRACKING_URI")}
    assert named | {SERVICES["label-studio"]["environment"]["POSTGRE_NAME"]} == created


def test_the_settings_of_the_server_can_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With compose's variables and secrets of odd characters, addresses and credentials come out right."""
    for name in COMPOSE["secrets"]:
        (tmp_path / name).write_text(ODD + "\n", encoding="utf-8")
    for variable, value in SERVICES["server"]["environment"].items():
        chosen = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value).replace("/run/secrets", str(tmp_path))
        monkeypatch.setenv(variable, chosen)
    settings = load_settings(data_dir=tmp_path)
    assert settings.basic_auth_pass is not None
    assert settings.basic_auth_pass.get_secret_value() == ODD
    assert settings.jobs_database_url().endswith("@postgres:5432/rankloop_jobs")
    assert settings.public_url() == "http://rankloop.local:9090"


def test_the_script_makes_secrets_and_keeps_those_that_are_there(tmp_path: Path) -> None:
    """Five files of 40 characters in a folder for the owner alone; a second run changes nothing."""

    def run() -> dict[str, str]:
        subprocess.run(["sh", ROOT / "docker" / "make-secrets.sh"], cwd=tmp_path, check=True, capture_output=True)
        return {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "secrets").iterdir()}

    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "basic_auth_pass").write_text(ODD, encoding="utf-8")
    first = run()
    assert first["basic_auth_pass"] == ODD
    assert all(re.fullmatch(r"[0-9a-f]{40}\n", text) for name, text in first.items() if name != "basic_auth_pass")
    assert set(first) == set(COMPOSE["secrets"])
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert run() == first


def test_label_studio_gets_its_secrets_whatever_characters_they_have(tmp_path: Path) -> None:
    """The script sets three variables from files, and starts what it is given."""
    for name in ("postgres_password", "label_studio_password", "label_studio_token"):
        (tmp_path / name).write_text(f"{name} {ODD}\n", encoding="utf-8")
    shown = 'printf "%s|%s|%s|%s" "$POSTGRE_PASSWORD" "$LABEL_STUDIO_PASSWORD" "$LABEL_STUDIO_USER_TOKEN" "$1"'
    done = subprocess.run(
        ["sh", ROOT / "docker" / "label-studio-with-secrets.sh", "-c", shown, "entrypoint", "label-studio"],
        env={"PATH": os.environ["PATH"], "SECRETS": str(tmp_path), "ENTRYPOINT": "/bin/sh"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == (f"postgres_password {ODD}|label_studio_password {ODD}|label_studio_token {ODD}|label-studio")


def test_the_image_has_what_it_copies() -> None:
    """Each path that Dockerfile copies exists and isn't ignored."""
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines():
        if line.startswith("COPY "):
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in kept, source
