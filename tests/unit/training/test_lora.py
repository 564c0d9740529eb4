"""Low-rank adapters: nothing changes until they are trained, the base never, and a version is an ordinary model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import nudge, tiny_decoder, tiny_gpt2

from training.config import LoRAConfig, PPOConfig, SamplingConfig
from training.data.types import PromptRecord
from training.errors import ConfigError
from training.lora import add_adapters
from training.models.architectures import backbone_of
from training.models.load import load_causal_lm
from training.models.policy import PolicyWithValue
from training.models.reward import RewardModel
from training.models.text import TextCodec
from training.ppo.train import train_ppo
from training.ppo.trainer import PPOTrainer, Start

IDS = torch.tensor([[3, 5, 7, 11, 13, 17]])
MASK = torch.ones_like(IDS, dtype=torch.bool)
LORA = LoRAConfig(rank=4, alpha=8.0)


@pytest.fixture(params=["gpt2", "llama", "gemma2", "falcon"])
def base(request: pytest.FixtureRequest) -> Any:
    """A tiny model; GPT-2 stores its linear weights transposed."""
    return tiny_decoder(request.param)


def _final(policy: PolicyWithValue) -> torch.Tensor:
    context = policy.base.context(MASK)
    return policy(policy.base.activations(IDS, context, [policy.depth])[policy.depth], context)


def _reference(policy: PolicyWithValue) -> torch.Tensor:
    context = policy.base.context(MASK)
    return policy.base.norm(policy.base.activations(IDS, context, [policy.base.n_layers])[policy.base.n_layers])


@torch.no_grad()
def test_an_untrained_adapter_changes_nothing(base: Any) -> None:
    """At the start the policy is the base bit for bit, and only adapters and value head are trained."""
    policy = PolicyWithValue(base, trainable_layers=2, lora=LORA)
    assert torch.equal(_final(policy), _reference(policy))
    learned = {name for name, value in policy.named_parameters() if value.requires_grad}
    assert {name for name in learned if "lora_" not in name} == {"value_head.weight", "value_head.bias"}
    assert set(policy.learned()) == learned


@torch.no_grad()
def test_the_language_model_has_the_adapters_merged_in(base: Any, tmp_path: Path) -> None:
    """After settling, sampled, saved and trained policies agree, and the reference is still the base."""
    policy = PolicyWithValue(base, trainable_layers=2, lora=LORA)
    before = _reference(policy)
    nudge([value for value in policy.parameters() if value.requires_grad], scale=0.2)
    policy.settle()
    ours = policy.base.logits(_final(policy))
    assert torch.equal(_reference(policy), before)
    assert not torch.allclose(_final(policy), before, atol=1e-2)
    torch.testing.assert_close(policy.language_model(IDS).logits, ours, rtol=0, atol=1e-4)
    policy.language_model.save_pretrained(tmp_path)
    later = PolicyWithValue(base, load_causal_lm(str(tmp_path), "cpu"), trainable_layers=2)
    torch.testing.assert_close(later.base.logits(_final(later)), ours, rtol=0, atol=1e-4)


def test_what_was_learned_can_be_restored(base: Any) -> None:
    """The adapters of one policy make another one equal to it, merged weights included."""
    first, second = (PolicyWithValue(base, trainable_layers=2, lora=LORA) for _ in range(2))
    nudge([value for value in first.parameters() if value.requires_grad], scale=0.2)
    first.settle()
    second.learn(first.learned())
    assert torch.equal(_final(first), _final(second))
    with torch.no_grad():
        assert torch.equal(first.language_model(IDS).logits, second.language_model(IDS).logits)


def test_an_unknown_target_is_refused() -> None:
    """The error names the target and the linear layers that there are."""
    top = backbone_of(tiny_gpt2()).top(2)
    with pytest.raises(ConfigError, match=r"q_proj.*c_attn, c_fc, c_proj"):
        add_adapters(top, LoRAConfig(targets=("q_proj",)))


def test_only_targets_are_adapted() -> None:
    """With one target, each block has one adapter."""
    top = add_adapters(backbone_of(tiny_gpt2()).top(2), LoRAConfig(targets=("c_attn",)))
    assert {name.split(".lora_")[0] for name, value in top.named_parameters() if value.requires_grad} == {
        f"blocks.{index}.attn.c_attn" for index in (0, 1)
    }


def test_ppo_with_adapters_starts_at_the_base_and_resumes(tiny_model_dir: Path, tmp_path: Path) -> None:
    """KL 0 and ratio 1 at the start; an interrupted run equals an uninterrupted one; the base's trunk is unchanged."""
    codec = TextCodec.load(str(tiny_model_dir))
    prompts = [PromptRecord(f"What is {number}?") for number in range(20)]
    config = PPOConfig(
        trainable="lora",
        lora=LORA,
        iterations=2,
        prompts_per_iteration=4,
        minibatch_size=4,
        epochs=2,
        learning_rate=1e-2,
        precision="float32",
        checkpoint_every_iterations=1,
        sampling=SamplingConfig(top_k=0, top_p=1.0, max_new_tokens=6),
    )

    def train(out: Path, on_point: Any = None) -> Any:
        base = load_causal_lm(str(tiny_model_dir), "cpu")
        return train_ppo(base, Start(), codec, RewardModel(base, 1), prompts, config, out, on_point=on_point)

    def stop(*_point: object) -> None:
        raise KeyboardInterrupt

    whole = train(tmp_path / "whole")
    assert whole.curve[0].kl_nats == 0.0
    assert whole.curve[0].first_ratio_gap < 1e-4
    assert whole.curve[1].kl_nats != 0.0
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", stop)
    assert train(tmp_path / "killed") == whole
    files = [tmp_path / name / "policy" / "model.safetensors" for name in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()
    before = load_causal_lm(str(tiny_model_dir), "cpu").state_dict()
    after = load_causal_lm(str(tmp_path / "whole" / "policy"), "cpu").state_dict()
    assert after.keys() == before.keys()
    changed = {name for name, value in before.items() if not torch.equal(after[name], value)}
    assert changed
    assert all(name.startswith(("transformer.h.1.", "transformer.h.2.")) for name in changed)


def test_ppo_rolls_out_what_it_trains(tiny_model_dir: Path) -> None:
    """After an iteration the sampled model's log-probs are those that training computes, within rounding."""
    codec = TextCodec.load(str(tiny_model_dir))
    base = load_causal_lm(str(tiny_model_dir), "cpu")
    prompts = [PromptRecord(f"What is {number}?") for number in range(20)]
    config = PPOConfig(trainable="lora", prompts_per_iteration=4, minibatch_size=4, learning_rate=1e-2, iterations=1)
    trainer = PPOTrainer(base, Start(), codec, RewardModel(base, 1), prompts, config)
    trainer.measure_baseline()
    trainer.iterate()
    with torch.no_grad():
        ours = trainer.policy.base.logits(_final(trainer.policy))
        torch.testing.assert_close(trainer.policy.language_model(IDS).logits, ours, rtol=0, atol=1e-4)
