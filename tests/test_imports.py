"""The house's architecture: imports point one way, and each outside system is touched in one module."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Lower layers first. A module may import from lower layers of its own package, and ml_backend from training.
TRAINING_LAYERS = [
    {"errors", "types"},
    {"config"},
    {"files", "records"},
    {"hub_data", "rouge"},
    {"objectives", "preferences", "text", "curves", "checkpoints", "calibration", "schedule", "precision"},
    {"answer_attention", "packed_linear", "fused_gelu", "activation_store", "length_groups", "short_attention"},
    {"quantized_linear"},
    {"backbone", "gpt2_weights", "gpt2_block", "frozen_head", "frozen_layers"},
    {"architectures", "gpt2_decoder"},
    {"models", "decoding", "token_choice"},
    {"sampling"},
    {"reward_model"},
    {"rollout", "reward_data", "reward_report", "ppo_report", "ppo_inputs", "diagnostics", "sft_data", "sft_report"},
    {"evaluate", "ppo_update", "ppo_run"},
    {"reward_measures", "reward_run", "ppo_trainer"},
    {"tldr"},
    {"tasks"},
    {"policy_evaluation"},
    {"held_out"},
    {"sft", "reward", "ppo"},
    {"run_folder", "progress"},
    {"stage"},
    {"stages"},
    {"cycle"},
    {"__main__"},
]
ML_BACKEND_LAYERS = [
    {"verdict_words"},
    {"label_config"},
    {"label_predictions"},
    {"label_annotations"},
    {"admission"},
    {"answers", "findings", "logging_setup", "metrics"},
    {"settings", "version_files", "schemas", "demo_data", "batching", "processes", "prompt_files", "console"},
    {"demo_preference", "supervise"},
    {"demo_taste", "demo_screen"},
    {"registry", "label_studio", "label_studio_server", "labeling", "child", "auth"},
    {"loaded_version", "snapshot", "connection", "infer_config"},
    {"doctor_backend", "proposer", "init_project", "export", "command_options"},
    {"answer_pair_model"},
    {"cycle_steps", "bulk_proposals"},
    {"workflows"},
    {"openapi", "loop_facts", "http_edge", "coalescing"},
    {"app", "label_studio_ml", "doctor", "reports"},
    {"demo_annotator", "demo_evaluation", "demo_stack"},
    {"demo_report"},
    {"demo_loop"},
    {"demo"},
    {"serve"},
    {"project_commands", "training_commands"},
    {"cli"},
]
OUTSIDE_SYSTEMS = {
    "datasets": {"training.hub_data", "ml_backend.prompt_files"},
    "mlflow": {"ml_backend.registry.session"},
    "dbos": {f"ml_backend.workflows.{name}" for name in ("client", "durable", "standing", "worker")},
    "label_studio_sdk": {"ml_backend.label_studio.session"},
    "label_studio_ml": {"ml_backend.label_studio_ml"},
    "flask": {"ml_backend.app", "ml_backend.http_edge"},
    "prometheus_client": {"ml_backend.loop_facts", "ml_backend.metrics"},
    "structlog": {"ml_backend.logging_setup"},
    "gunicorn": {"ml_backend.serve"},
}


def _modules() -> dict[str, Path]:
    found = {}
    for package in ("training", "ml_backend"):
        for path in sorted((ROOT / package).rglob("*.py")):
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


def _layer(module: str) -> int:
    package, _, rest = module.partition(".")
    layers = TRAINING_LAYERS if package == "training" else ML_BACKEND_LAYERS
    head = rest.split(".")[0]
    for level, names in enumerate(layers):
        if head in names:
            return level
    pytest.fail(f"{module} has no layer in tests/test_imports.py: say where it stands")


MODULES = _modules()


@pytest.mark.parametrize("module", [name for name in MODULES if "." in name])
def test_imports_point_down(module: str) -> None:
    """A module imports only from lower layers; training never imports ml_backend."""
    package = module.partition(".")[0]
    for name in _imports(MODULES[module]) & set(MODULES):
        if "." not in name:
            continue
        target = name.partition(".")[0]
        if target == package:
            same_folder = name.split(".")[1] == module.split(".")[1]
            assert same_folder or _layer(name) < _layer(module), f"{module} imports {name}, which is not below it"
        else:
            assert target == "training", f"{module} imports {name}: training must not know ml_backend"


@pytest.mark.parametrize("module", MODULES)
def test_each_outside_system_is_touched_in_one_module(module: str) -> None:
    """Label Studio, MLflow, DBOS and Flask are each imported by exactly one module."""
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
