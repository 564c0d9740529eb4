"""Every decoder-only architecture trains: its parts, found by structure, do what the whole model does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_models import MATRIX, PAD, nudge, tiny_decoder, tiny_rotary
from torch import Tensor, nn

from training.config import PPOConfig, SamplingConfig
from training.data.types import PromptRecord
from training.errors import ModelError
from training.models import structure
from training.models.architectures import backbone_of
from training.models.load import load_causal_lm
from training.models.policy import PolicyWithValue
from training.models.reward import RewardModel
from training.models.text import TextCodec
from training.ppo.trainer import PPOTrainer, Start

IDS = torch.tensor([[3, 5, 7, 11, 13, 17, 2, 9]])
T = IDS.shape[1]
ALL_REAL = torch.ones_like(IDS, dtype=torch.bool)


class EvenTokens(RewardModel):
    """Scores the share of even token ids in a sequence: a rule that needs no training."""

    def score_over(self, activations: Any, ids: Tensor, mask: Tensor, context: Any, starts: Any) -> Tensor:  # noqa: ARG002
        """The rule."""
        return ((ids % 2 == 0) & mask).sum(dim=1) / mask.sum(dim=1)


@pytest.fixture(params=list(MATRIX))
def name(request: pytest.FixtureRequest) -> str:
    """An architecture's name in the matrix."""
    found: str = request.param
    return found


def _final(backbone: Any, ids: Tensor, mask: Tensor, cut: int) -> Tensor:
    context = backbone.context(mask)
    below = backbone.activations(ids, context, [cut])[cut]
    return backbone.top(cut)(below, context)


def _padded(left: int, right: int) -> tuple[Tensor, Tensor]:
    ids = F.pad(IDS, (left, right), value=PAD)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    mask[:, left : left + T] = True
    ids[~mask] = torch.arange(left + right) + 20
    return ids, mask


@torch.no_grad()
def test_its_parts_give_its_own_logits(name: str) -> None:
    """Cut at any depth, padded on either side or not at all, alone or beside a longer row: the model's own logits."""
    model = tiny_decoder(name)
    backbone = backbone_of(model)
    whole = model(IDS).logits[0]
    for left, right, cut in ((0, 0, 0), (0, 0, 3), (4, 0, 1), (0, 4, 2), (2, 3, 4)):
        ids, mask = _padded(left, right)
        longer = torch.cat([ids, torch.arange(ids.shape[1])[None]]), torch.cat([mask, torch.ones_like(mask)])
        for batch, real in ((ids, mask), longer):
            found = backbone.logits(_final(backbone, batch, real, cut))
            assert torch.isfinite(found).all()
            torch.testing.assert_close(found[0, mask[0]], whole, rtol=0, atol=2e-5 * float(whole.std()) + 1e-5)


@torch.no_grad()
def test_log_probs_of_the_frozen_head_are_the_models_own(name: str) -> None:
    """The head's log-probs are those of the model's logits, and their gradient is autograd's."""
    model = tiny_decoder(name)
    backbone = backbone_of(model)
    hidden = _final(backbone, IDS, ALL_REAL, 2)[0]
    with torch.enable_grad():
        ours, theirs = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
        found = backbone.frozen_head().logprobs(ours, IDS[0], 0.7)
        expected = (backbone.logits(theirs) / 0.7).log_softmax(dim=-1).gather(-1, IDS[0][:, None])[:, 0]
        (found * torch.arange(T)).sum().backward()
        (expected * torch.arange(T)).sum().backward()
    own = (model(IDS).logits[0] / 0.7).log_softmax(dim=-1).gather(-1, IDS[0][:, None])[:, 0]
    torch.testing.assert_close(found.detach(), own, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)


def test_gradients_reach_every_weight_as_in_the_whole_model(name: str) -> None:
    """Through the parts, each parameter gets the gradient that it gets through the model's own forward."""
    gradients = []
    for of_parts in (True, False):
        model = tiny_decoder(name)
        backbone = backbone_of(model)
        model.requires_grad_(requires_grad=True)
        if of_parts:
            context = backbone.context(ALL_REAL)
            hidden = backbone.run(backbone.embed(IDS, context), context, 0, backbone.n_layers)
            logits = backbone.logits(backbone.norm(hidden))
        else:
            logits = model(IDS).logits
        logits.log_softmax(dim=-1)[..., 3].sum().backward()
        gradients.append({key: value.grad for key, value in model.named_parameters() if value.grad is not None})
    ours, theirs = gradients
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        torch.testing.assert_close(value, theirs[key], rtol=1e-3, atol=1e-4)


def test_a_policy_shares_its_trunk_and_survives_saving(name: str, tmp_path: Path) -> None:
    """A trained policy is saved as an ordinary model, and continues from there on the same base."""
    base = tiny_decoder(name)
    first = PolicyWithValue(base, trainable_layers=2)
    nudge(first.top.parameters())
    first.language_model.save_pretrained(tmp_path)
    loaded = load_causal_lm(str(tmp_path), "cpu")
    second = PolicyWithValue(base, loaded, trainable_layers=2)
    assert backbone_of(base).trunk_digest(2) == backbone_of(second.language_model).trunk_digest(2)
    assert backbone_of(base).trunk_digest(3) != backbone_of(second.language_model).trunk_digest(3)
    assert backbone_of(second.language_model).blocks[0] is backbone_of(base).blocks[0]
    context = first.base.context(ALL_REAL)
    trunk = first.base.activations(IDS, context, [2])[2]
    assert torch.equal(first(trunk, context), second(trunk, context))
    with torch.no_grad():
        ours = first.base.logits(first(trunk, context))
        torch.testing.assert_close(ours, loaded.eval()(IDS).logits, rtol=0, atol=1e-4)


def test_a_step_of_reward_training_lowers_the_loss(name: str) -> None:
    """One small step along the gradient makes the chosen answer's score rise against the rejected one's."""
    model = RewardModel(tiny_decoder(name), 2)
    ids = torch.cat([IDS, IDS.flip(1)])
    context = model.base.context(torch.ones_like(ids, dtype=torch.bool))
    trunk, last = model.trunk(ids, context), torch.tensor([T - 1, T - 1])
    nn.init.normal_(model.head.weight, std=0.1, generator=torch.Generator().manual_seed(0))

    def loss() -> Tensor:
        chosen, rejected = model.top_scores(trunk, context, last)[:, 0]
        return -F.logsigmoid(chosen - rejected)

    before = loss()
    before.backward()
    with torch.no_grad():
        for value in model.parameters():
            if value.grad is not None:
                value -= 1e-3 * value.grad
        assert loss() < before


def test_ppo_starts_at_the_base(name: str, tiny_model_dir: Path) -> None:
    """In PPO's first iteration the KL is 0 and the ratio 1, and the policy then differs from the base."""
    codec = TextCodec.load(str(tiny_model_dir))
    special = {"bos_token_id": codec.eos_id, "eos_token_id": codec.eos_id, "pad_token_id": codec.pad_id}
    base = tiny_decoder(name, vocab_size=len(codec.tokenizer), **special)
    config = PPOConfig(
        iterations=1,
        prompts_per_iteration=4,
        minibatch_size=4,
        epochs=2,
        learning_rate=1e-3,
        precision="float32",
        sampling=SamplingConfig(top_k=0, top_p=1.0, max_new_tokens=6),
    )
    prompts = [PromptRecord(f"What is {number}?") for number in range(20)]
    trainer = PPOTrainer(base, Start(), codec, EvenTokens(base, 1), prompts, config)
    trainer.measure_baseline()
    point = trainer.iterate()
    assert point.kl_nats == 0.0
    assert point.first_ratio_gap < 1e-4
    assert point.ratio_max != 1.0


def test_a_window_in_some_layers_does_not_limit_what_is_read() -> None:
    """Gemma reads on beyond the window of its local layers; where every layer has one, texts are kept within it."""
    assert backbone_of(tiny_decoder("gemma3_text")).max_positions == 64
    assert backbone_of(tiny_rotary("mistral", sliding_window=4)).max_positions == 4


REFUSED = {
    "mixtral": "mixture of experts",
    "qwen2_moe": "mixture of experts",
    "gpt_oss": "mixture of experts",
    "mamba": "no key-value cache",
    "rwkv": "no key-value cache",
    "recurrent_gemma": "layers that aren't attention",
    "falcon_h1": "layers that aren't attention",
    "bert": "its parts don't give what the whole model gives, for a sequence padded on the right",
}


@pytest.mark.parametrize("architecture", REFUSED)
def test_what_does_not_train_is_refused_by_name(architecture: str) -> None:
    """Experts, recurrent states and models that read ahead are refused, with name and reason."""
    with pytest.raises(ModelError, match=rf"{REFUSED[architecture]}.*'{architecture}'"):
        backbone_of(tiny_rotary(architecture))


def test_an_encoder_is_refused() -> None:
    """A model that reads with an encoder and answers with a decoder isn't trained."""
    model = tiny_rotary("llama", intermediate_size=56)
    model.config.is_encoder_decoder = True
    with pytest.raises(ModelError, match="it has an encoder"):
        backbone_of(model)


def test_a_model_without_a_list_of_blocks_is_refused() -> None:
    """Where no list has as many modules as the model has layers, its blocks can't be found."""
    model = tiny_rotary()
    model.config.num_hidden_layers = 7
    with pytest.raises(ModelError, match="its blocks can't be found"):
        backbone_of(model)


class _Fading(nn.Module):
    """A norm that makes later tokens count for less, whatever their positions."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, hidden: Tensor) -> Tensor:
        """The norm's output, divided by the place in the batch."""
        found: Tensor = self.norm(hidden) / torch.arange(1, hidden.shape[1] + 1)[:, None]
        return found


def test_a_model_that_is_more_than_its_parts_is_refused() -> None:
    """A model whose parts don't add up to the whole is never used."""
    model = tiny_rotary("llama", intermediate_size=48)
    model.model.norm = _Fading(model.model.norm)
    with pytest.raises(ModelError, match="its parts don't give what the whole model gives"):
        backbone_of(model)


def test_damaged_weights_are_named() -> None:
    """A model whose logits are NaN is said to be damaged."""
    model = tiny_rotary("llama", intermediate_size=40)
    nn.init.constant_(model.model.layers[1].mlp.up_proj.weight, torch.nan)
    with pytest.raises(ModelError, match="logits are NaN or infinite"):
        backbone_of(model)


def test_replacing_modules_in_a_shallow_copy_leaves_the_model_alone() -> None:
    """The copy has the replacement, everything else is the model's own, and the model is as it was."""
    model = tiny_rotary()
    norm = model.model.norm
    copied = structure.with_replaced(model, {"model.norm": nn.Identity()})
    assert isinstance(copied.model.norm, nn.Identity)
    assert model.model.norm is norm
    assert copied.model.layers is model.model.layers
    assert copied.lm_head is model.lm_head
