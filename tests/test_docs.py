"""Everything that a user can set or call is documented."""

from __future__ import annotations

import re
from pathlib import Path

import typer.main

from ml_backend.cli.app import app
from ml_backend.settings import Settings, is_secret, variable_of

ROOT = Path(__file__).parent.parent
PAGES = "\n".join(path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def test_every_setting_is_documented() -> None:
    """Each environment variable that settings read is in docs/settings.md."""
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    for name, field in Settings.model_fields.items():
        choices = getattr(field.validation_alias, "choices", [f"RANKLOOP_{name.upper()}"])
        for variable in [str(choice) for choice in choices if str(choice).isupper()]:
            assert f"`{variable}`" in page, f"{variable} is missing from docs/settings.md"


def test_every_documented_setting_exists() -> None:
    """No page names a RANKLOOP_ variable that nothing reads."""
    known = {f"RANKLOOP_{name.upper()}" for name in Settings.model_fields}
    known |= {f"{variable_of(name, field)}_FILE" for name, field in Settings.model_fields.items() if is_secret(field)}
    assert set(re.findall(r"\bRANKLOOP_[A-Z_]+\b", PAGES)) <= known


def test_every_command_is_documented() -> None:
    """README or docs mention each command of the command line."""
    commands = typer.main.get_command(app)
    for name in commands.commands:  # type: ignore[attr-defined]
        assert re.search(rf"rankloop {name}\b|`{name}`", PAGES), f"rankloop {name} is in no page"


def test_links_lead_somewhere() -> None:
    """Each relative link and picture of every page exists."""
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def _named_places(text: str) -> set[tuple[str, str]]:
    """Files of the two packages that a text names, each with the name after a colon, or an empty string."""
    return set(re.findall(r"`((?:training|ml_backend)/[\w/]+\.py)(?::([\w.]+))?`", text))


def test_what_the_architecture_page_names_exists() -> None:
    """Each file, function and class named in docs/architecture.md exists, and both tables list each package."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    places = _named_places(page)
    assert len(places) > 20
    for file, name in places:
        assert (ROOT / file).is_file(), f"docs/architecture.md names {file}"
        for part in filter(None, name.split(".")):
            assert re.search(rf"\b(def|class) {part}\b", (ROOT / file).read_text(encoding="utf-8")), f"{file}:{name}"
    for top in ("training", "ml_backend"):
        there = {
            path.stem for path in (ROOT / top).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
        }
        rows = page.partition(f"| `{top}`, from the top")[2].partition("\n\n")[0]
        assert set(re.findall(r"`(\w+)`", rows)) >= there - {"__init__"}


def test_the_walk_is_short() -> None:
    """One annotation's way from webhook to champion passes through at most twenty files."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    walk = page.partition("## One annotation's way")[2].partition("\n## ")[0]
    assert 10 <= len({file for file, _ in _named_places(walk)}) <= 20
