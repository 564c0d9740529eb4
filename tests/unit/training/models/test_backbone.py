"""The adapter computes exactly what Hugging Face does, split at any depth and with any padding."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from tiny_models import EOS, PAD, VOCABULARY, nudge, tiny_gpt2, tiny_rotary
from torch import nn

from training.errors import ModelError
from training.models.architectures import backbone_of

IDS = torch.tensor([[3, 5, 7, 11, 13, 17]])
Make = Callable[..., Any]
MODELS: dict[str, Make] = {
    "gpt2": tiny_gpt2,
    **{name: partial(tiny_rotary, name) for name in ("llama", "mistral", "qwen2", "qwen3")},
    "llama, stretched": partial(
        tiny_rotary,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    ),
    "llama, tied": partial(tiny_rotary, tie_word_embeddings=True),
}


@pytest.fixture(params=MODELS.values(), ids=list(MODELS))
def make(request: pytest.FixtureRequest) -> Make:
    """Makes a tiny model of each architecture that can be trained."""
    made: Make = request.param
    return made


def _hidden(backbone, ids, mask, cut):
    context = backbone.context(mask)
    hidden = backbone.run(backbone.embed(ids, context), context, 0, cut)
    return backbone.top(cut)(hidden, context)


@pytest.mark.parametrize("cut", [0, 1, 3, 4])
def test_cutting_the_model_anywhere_gives_its_own_logits(make: Make, cut: int) -> None:
    """Lower blocks, upper blocks and norm in two calls give the hidden states and logits of the whole model."""
    model = make()
    backbone = backbone_of(model)
    with torch.no_grad():
        hidden = _hidden(backbone, IDS, torch.ones_like(IDS, dtype=torch.bool), cut)
        theirs = model(IDS, output_hidden_states=True)
    torch.testing.assert_close(hidden, theirs.hidden_states[-1], rtol=0, atol=1e-5)
    torch.testing.assert_close(backbone.logits(hidden), theirs.logits, rtol=0, atol=1e-5)


def test_activations_are_the_models_own_hidden_states(make: Make) -> None:
    """The input of each block equals transformers' hidden states at that depth, left-padded, in one pass."""
    model = make()
    backbone = backbone_of(model)
    mask = torch.ones_like(IDS, dtype=torch.bool)
    mask[:, :2] = False
    with torch.no_grad():
        context = backbone.context(mask)
        ours = backbone.activations(IDS, context, [0, 1, 3])
        theirs = model(
            IDS, attention_mask=mask.long(), position_ids=context.positions, output_hidden_states=True
        ).hidden_states
    for depth in (0, 1, 3):
        torch.testing.assert_close(ours[depth][mask], theirs[depth][mask], rtol=0, atol=1e-5)


@pytest.mark.parametrize("side", ["left", "right", "both"])
def test_padding_has_no_influence(make: Make, side: str) -> None:
    """A row's real tokens get the same hidden states whatever the padding, on either side."""
    backbone = backbone_of(make())
    left, right = {"left": (4, 0), "right": (0, 4), "both": (2, 3)}[side]
    ids = nn.functional.pad(IDS, (left, right), value=PAD)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    mask[:, left : left + 6] = True
    ids[~mask] = torch.arange(left + right) % VOCABULARY
    with torch.no_grad():
        alone = _hidden(backbone, IDS, torch.ones_like(IDS, dtype=torch.bool), 2)
        padded = _hidden(backbone, ids, mask, 2)
    assert torch.isfinite(padded).all()
    torch.testing.assert_close(padded[mask], alone[0], rtol=0, atol=1e-5)


def test_positions_count_real_tokens_only(make: Make) -> None:
    """Two pads on the left leave the first real token at position 0."""
    backbone = backbone_of(make())
    context = backbone.context(torch.tensor([[False, False, True, True, True]]))
    assert context.positions.tolist() == [[0, 0, 0, 1, 2]]


def test_a_copy_of_the_top_has_weights_of_its_own(make: Make) -> None:
    """Changing the copy leaves the model as it was; the shared view changes with it."""
    backbone = backbone_of(make())
    before = backbone.norm.weight.clone()
    nudge(backbone.copy_of_top(3).parameters())
    assert torch.equal(backbone.norm.weight, before)
    nudge(backbone.top(3).parameters())
    assert not torch.equal(backbone.norm.weight, before)


def test_dropout_is_off_even_in_training_mode(make: Make) -> None:
    """Two passes agree even after a call to train()."""
    model = make()
    backbone = backbone_of(model)
    model.train()
    mask = torch.ones_like(IDS, dtype=torch.bool)
    assert torch.equal(_hidden(backbone, IDS, mask, 2), _hidden(backbone, IDS, mask, 2))


def test_the_digest_sees_the_trunk_and_nothing_above(make: Make) -> None:
    """A changed upper layer leaves the digest alone; one changed number below changes it."""
    ours, theirs = backbone_of(make()), backbone_of(make())
    nudge(theirs.blocks[2].parameters())
    assert ours.trunk_digest(2) == theirs.trunk_digest(2)
    assert ours.trunk_digest(3) != theirs.trunk_digest(3)
    for module in theirs.embeddings.values():
        before, value = theirs.trunk_digest(2), [*module.parameters(), *module.buffers()][0]
        with torch.no_grad():
            value.flatten()[0] += 1e-3
        assert theirs.trunk_digest(2) != before


def test_other_rotations_are_another_trunk() -> None:
    """The same weights with another rotary base are another model, with another digest."""
    rope = {"rope_type": "default", "rope_theta": 500.0}
    same, other = tiny_rotary(), tiny_rotary(rope_parameters=rope)
    assert torch.equal(same.lm_head.weight, other.lm_head.weight)
    assert backbone_of(same).trunk_digest(2) != backbone_of(other).trunk_digest(2)


@pytest.mark.parametrize("architecture", ["mistral", "qwen2"])
def test_a_sliding_window_bounds_what_is_read(architecture: str) -> None:
    """Within its window a sliding-window model equals one without; nothing beyond it is read."""
    changes = {"use_sliding_window": True, "max_window_layers": 0} if architecture == "qwen2" else {}
    model = tiny_rotary(architecture, sliding_window=6, **changes)
    backbone = backbone_of(model)
    assert backbone.max_positions == 6
    with torch.no_grad():
        ours = backbone.logits(_hidden(backbone, IDS, torch.ones_like(IDS, dtype=torch.bool), 2))
        torch.testing.assert_close(ours, model(IDS).logits, rtol=0, atol=1e-5)
    assert backbone_of(tiny_rotary(architecture, sliding_window=None)).max_positions == 64


def test_rotations_that_depend_on_the_batch_are_refused() -> None:
    """A rotary embedding that depends on the longest sequence is refused: a row would depend on its batch."""
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    with pytest.raises(ModelError, match=r"'dynamic'; expected one of default"):
        backbone_of(tiny_rotary(rope_parameters=rope))


def test_end_of_text_is_an_ordinary_token(make: Make) -> None:
    """An end-of-text id in the middle is read, not taken for padding: masks alone say what is real."""
    backbone = backbone_of(make())
    changed = IDS.clone()
    changed[0, 2] = EOS
    mask = torch.ones_like(IDS, dtype=torch.bool)
    with torch.no_grad():
        assert not torch.allclose(_hidden(backbone, IDS, mask, 2)[0, -1], _hidden(backbone, changed, mask, 2)[0, -1])
