"""The architecture: imports between packages point one way, packages are small, outside systems have one door."""

from __future__ import annotations

import ast
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parent.parent

# Lower packages first. A package imports from those below it; packages on the same step don't import each other.
ORDER = {
    "training": [
        {"errors", "config", "objectives", "preference_losses", "atomic"},
        {"data", "runs", "fast", "lora"},
        {"models"},
        {"sampling"},
        {"evaluation"},
        {"reward", "ppo", "sft"},
        {"stages", "cycle"},
        {"cycle_on_files"},
        {"__main__"},
    ],
    "ml_backend": [
        {"errors", "settings"},
        {"processes", "labels", "contest"},
        {"label_studio", "registry", "people"},
        {"lines"},
        {"rounds"},
        {"serving", "upkeep"},
        {"loop"},
        {"observe", "handover", "page"},
        {"http", "doctor", "demo"},
        {"cli"},
    ],
}
WITHIN_A_STEP = {("config", "errors"), ("objectives", "errors"), ("atomic", "errors"), ("settings", "errors")}
"""Single files at the bottom; the other files may import the errors."""
MOST_STEPS = 10
MOST_FILES = 12
MOST_LINES = 300
MEDIAN_LINES = 140
OUTSIDE_SYSTEMS = {
    "datasets": {"training.data.hub", "training.data.prompt_sources"},
    "huggingface_hub": {"ml_backend.handover.hub", "ml_backend.registry.version_files", "training.config.cycle"},
    "mlflow": {"ml_backend.registry.session"},
    "dbos": {f"ml_backend.loop.{name}" for name in ("client", "durable", "standing", "worker")},
    "label_studio_sdk": {"ml_backend.label_studio.session"},
    "label_studio_ml": {"ml_backend.http.label_studio_ml"},
    "flask": {"ml_backend.http.app", "ml_backend.http.edge", "ml_backend.http.pages"},
    "jinja2": {"ml_backend.page.site"},
    "prometheus_client": {"ml_backend.observe.facts", "ml_backend.observe.metrics"},
    "structlog": {"ml_backend.processes.logs"},
    "gunicorn": {"ml_backend.http.serve"},
    "openvino": {"training.sampling.openvino_runtime"},
}


def _modules() -> dict[str, Path]:
    found = {}
    for top in ORDER:
        for path in sorted((ROOT / top).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def _imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _step(top: str, package: str) -> int:
    for level, names in enumerate(ORDER[top]):
        if package in names:
            return level
    pytest.fail(f"{top}.{package} has no place in tests/test_architecture.py; add it to a step")


MODULES = _modules()
LINES = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}


@pytest.mark.parametrize("module", [name for name in MODULES if "." in name])
def test_imports_point_down(module: str) -> None:
    """A module imports from its own package and from those below; training never imports ml_backend."""
    top, package = module.split(".")[:2]
    for name in _imports(MODULES[module]):
        target = name.split(".")
        if target[0] not in ORDER or len(target) == 1 or name not in MODULES:
            continue
        if target[0] == top:
            below = _step(top, target[1]) < _step(top, package)
            known = target[1] == package or below or (package, target[1]) in WITHIN_A_STEP
            assert known, f"{module} imports {name}, which isn't below it"
        else:
            assert target[0] == "training", f"{module} imports {name}: training must not import ml_backend"


@pytest.mark.parametrize("module", MODULES)
def test_other_packages_are_used_through_their_face(module: str) -> None:
    """Whatever a package imports from another is exported by the other's `__init__.py`."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        parts = node.module.split(".")
        if parts[0] not in ORDER or len(parts) < 2 or parts[:2] == module.split(".")[:2]:
            continue
        assert len(parts) == 2, f"{module} imports from inside {node.module}: import it from {'.'.join(parts[:2])}"


def test_the_order_can_be_remembered() -> None:
    """Each of the two has few steps, and every package is on exactly one."""
    for top, steps in ORDER.items():
        names = [name for step in steps for name in step]
        assert len(steps) <= MOST_STEPS
        assert len(names) == len(set(names))
        there = {name.split(".")[1] for name in MODULES if name.startswith(f"{top}.")}
        assert set(names) == there


def test_rooms_and_files_are_small() -> None:
    """No package has more than twelve files, no file more than 300 lines, and most are far shorter."""
    for folder in {path.parent for path in MODULES.values()}:
        assert len(list(folder.glob("*.py"))) <= MOST_FILES, f"{folder} has too many files"
    assert max(LINES.values()) <= MOST_LINES, max(LINES, key=lambda name: LINES[name])
    assert median(LINES.values()) <= MEDIAN_LINES


@pytest.mark.parametrize("module", MODULES)
def test_each_outside_system_has_one_door(module: str) -> None:
    """Label Studio, MLflow, DBOS, Flask and the like are each imported only by the modules that own them."""
    for name in _imports(MODULES[module]):
        owner = OUTSIDE_SYSTEMS.get(name.partition(".")[0])
        assert owner is None or module in owner, f"{module} imports {name}; only {owner} may"


@pytest.mark.parametrize("module", MODULES)
def test_only_settings_reads_the_environment(module: str) -> None:
    """No module but settings reads environment variables."""
    if module == "ml_backend.settings":
        return
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            assert node.attr not in {"getenv", "environb"}, f"{module} reads the environment"
