"""The adapter runs the very model that Hugging Face runs, cut where we like and whatever the padding."""

from __future__ import annotations

import pytest
import torch
from tiny_models import EOS, PAD, VOCABULARY, nudge, tiny_gpt2
from torch import nn

from training.backbone import backbone_of
from training.errors import ModelError

IDS = torch.tensor([[3, 5, 7, 11, 13, 17]])


def _hidden(backbone, ids, mask, cut):
    context = backbone.context(mask)
    hidden = backbone.run(backbone.embed(ids, context), context, 0, cut)
    return backbone.top(cut)(hidden, context)


@pytest.mark.parametrize("cut", [0, 1, 3, 4])
def test_cutting_the_model_anywhere_gives_its_own_logits(cut: int) -> None:
    """Lower blocks, upper blocks and norm in two calls give what the whole model gives."""
    model = tiny_gpt2()
    backbone = backbone_of(model)
    with torch.no_grad():
        ours = backbone.logits(_hidden(backbone, IDS, torch.ones_like(IDS, dtype=torch.bool), cut))
        theirs = model(IDS).logits
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("side", ["left", "right", "both"])
def test_padding_has_no_influence(side: str) -> None:
    """A row's real tokens get the same hidden states whatever stands beside them, on either side."""
    backbone = backbone_of(tiny_gpt2())
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


def test_positions_count_real_tokens_only() -> None:
    """Two pads on the left leave the first real token at position 0."""
    backbone = backbone_of(tiny_gpt2())
    context = backbone.context(torch.tensor([[False, False, True, True, True]]))
    assert context.positions.tolist() == [[0, 0, 0, 1, 2]]


def test_a_copy_of_the_top_has_weights_of_its_own() -> None:
    """Changing the copy leaves the model as it was; the shared view changes with it."""
    backbone = backbone_of(tiny_gpt2())
    before = backbone.norm.bias.clone()
    nudge(backbone.copy_of_top(3).parameters())
    assert torch.equal(backbone.norm.bias, before)
    nudge(backbone.top(3).parameters())
    assert not torch.equal(backbone.norm.bias, before)


def test_dropout_is_off_even_in_training_mode() -> None:
    """Two passes agree although somebody called train()."""
    model = tiny_gpt2()
    backbone = backbone_of(model)
    model.train()
    mask = torch.ones_like(IDS, dtype=torch.bool)
    assert torch.equal(_hidden(backbone, IDS, mask, 2), _hidden(backbone, IDS, mask, 2))


def test_the_digest_sees_the_trunk_and_nothing_above() -> None:
    """A changed upper layer leaves the digest alone; one changed number below changes it."""
    model, other = tiny_gpt2(), tiny_gpt2()
    nudge(other.transformer.h[2].parameters())
    assert backbone_of(model).trunk_digest(2) == backbone_of(other).trunk_digest(2)
    assert backbone_of(model).trunk_digest(3) != backbone_of(other).trunk_digest(3)
    with torch.no_grad():
        other.transformer.wpe.weight[0, 0] += 1e-3
    assert backbone_of(model).trunk_digest(2) != backbone_of(other).trunk_digest(2)


def test_an_unknown_architecture_is_named() -> None:
    """The error names the architecture got and those there are."""
    model = tiny_gpt2()
    model.config.model_type = "mamba"
    with pytest.raises(ModelError, match=r"mamba.*gpt2"):
        backbone_of(model)


def test_end_of_text_is_an_ordinary_token() -> None:
    """An end-of-text id in the middle is read, not taken for padding: masks alone say what is real."""
    backbone = backbone_of(tiny_gpt2())
    changed = IDS.clone()
    changed[0, 2] = EOS
    mask = torch.ones_like(IDS, dtype=torch.bool)
    with torch.no_grad():
        assert not torch.allclose(_hidden(backbone, IDS, mask, 2)[0, -1], _hidden(backbone, changed, mask, 2)[0, -1])
