"""The demo's version that is worse on purpose."""

from __future__ import annotations

from ml_backend.demo.contest import register_worse
from ml_backend.registry import Registry
from ml_backend.settings import Settings
from training.models import load_causal_lm


def test_a_worse_version_is_a_version_like_any_other(mlflow_settings: Settings) -> None:
    """It stands on the champion's line, can be fetched and loaded, has other weights, and answers nobody yet."""
    registry = Registry(mlflow_settings)
    champion = registry.current("project-7")
    worse = register_worse(registry, champion, 7)
    assert (worse.line, worse.parent, worse.tags["kind"]) == ("project-7", champion.name, "worse")
    assert registry.current("project-7") == champion
    folders = [registry.fetch(version) / "policy" for version in (champion, worse)]
    old, new = (load_causal_lm(str(folder), "cpu").get_input_embeddings().weight for folder in folders)
    spread = float(((new - old).std() / old.std()).detach())
    assert 0.5 < spread < 0.9
    assert registry.attempts("project-7")[0].status == "registered"
    assert registry.challenge(worse.name, champion.name).name == worse.name
