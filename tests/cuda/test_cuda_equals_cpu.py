"""A GPU computes what the CPU computes, within float32's rounding."""

from __future__ import annotations

import pytest
import torch

from scripts.gpu_check.equality import CHECKS, CLOSE
from scripts.gpu_check.shapes import tiny_models

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@pytest.mark.parametrize("what", CHECKS)
@pytest.mark.parametrize("name", list(tiny_models()))
def test_cuda_equals_cpu(name: str, what: str) -> None:
    """Sampled answers, a reward step and an iteration of PPO agree."""
    assert CHECKS[what](tiny_models()[name], torch.device("cuda")) < CLOSE


def test_a_frozen_model_published_in_bfloat16_is_held_in_it(tmp_path) -> None:
    """Linear weights take two bytes on the GPU, and logits are those of the CPU's float32 model."""
    from training.models import load_causal_lm

    tiny_models()["llama"].save_pretrained(tmp_path)
    narrow, wide = load_causal_lm(str(tmp_path), "cuda", frozen=True), load_causal_lm(str(tmp_path), "cpu")
    assert narrow.model.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16
    ids = torch.tensor([[3, 5, 7, 11]])
    with torch.no_grad():
        torch.testing.assert_close(narrow(ids.cuda()).logits.cpu(), wide(ids).logits, rtol=0, atol=1e-4)
