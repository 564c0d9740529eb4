"""What a user can set or call is documented."""

from __future__ import annotations

import re
from pathlib import Path

import typer.main

from ml_backend.cli.app import app
from ml_backend.settings import Settings

ROOT = Path(__file__).parent.parent
PAGES = "\n".join(path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def test_every_setting_is_documented() -> None:
    """Each environment variable that settings read has a line in docs/settings.md."""
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    for name, field in Settings.model_fields.items():
        choices = getattr(field.validation_alias, "choices", [f"RANKLOOP_{name.upper()}"])
        for variable in [str(choice) for choice in choices if str(choice).isupper()]:
            assert f"`{variable}`" in page, f"{variable} is missing from docs/settings.md"


def test_every_documented_setting_exists() -> None:
    """No page names a RANKLOOP_ variable that nothing reads."""
    known = {f"RANKLOOP_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"\bRANKLOOP_[A-Z_]+\b", PAGES)) <= known


def test_every_command_is_documented() -> None:
    """README or docs mention each command of the command line."""
    commands = typer.main.get_command(app)
    for name in commands.commands:  # type: ignore[attr-defined]
        assert re.search(rf"rankloop {name}\b|`{name}`", PAGES), f"rankloop {name} is in no page"


def test_links_lead_somewhere() -> None:
    """Each relative link and picture of README and docs exists."""
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
