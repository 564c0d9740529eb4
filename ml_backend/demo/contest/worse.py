"""A version that is worse on purpose: the champion with noise in its weights."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from ml_backend.registry import Registry, Version

NOISE = 0.7
"""The standard deviation of the noise, in those of each weight matrix. (With 0.3 people still preferred 6 of 20.)"""


def register_worse(registry: Registry, champion: Version, project_id: int, device: str = "cpu") -> Version:
    """Register a spoiled copy of a version on its line, as a cycle would register one. It answers nobody yet."""
    import torch

    from training.models import load_causal_lm

    dice = torch.Generator().manual_seed(0)
    folder = registry.fetch(champion)
    with tempfile.TemporaryDirectory(prefix="rankloop-worse-") as made:
        copy = Path(made) / "version"
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("manifest*.json"))
        model = load_causal_lm(str(folder / "policy"), device)
        with torch.no_grad():
            for weights in model.parameters():
                if weights.dim() > 1:
                    noise = torch.randn(weights.shape, generator=dice).to(weights)
                    weights.add_(noise, alpha=NOISE * float(weights.std()))
        model.save_pretrained(copy / "policy", safe_serialization=True)
        run_id = registry.start_cycle_run(project_id, f"worse-{champion.line}", {"line": champion.line})
        tags = {"kind": "worse", "project_id": str(project_id)}
        worse = registry.register(copy, run_id=run_id, parent=champion.name, metrics={}, tags=tags, line=champion.line)
    registry.finish_run(run_id, "registered", "A copy of the champion with noise in its weights, made by the demo.")
    return worse
