"""Attention over a shared prompt and an answer's own tokens: equal to plain attention, whatever the batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training.fast.answer_attention import AnswerAttention, room_for

HEADS, SIZE, STEPS = 3, 32, 40  # more steps than fit into one tile


def _attended(prompts: list[Tensor], copies: int, steps: list[Tensor], columns: int) -> Tensor:
    """The output (steps, B, H, D) of each step; `prompts` and `steps` hold keys and values (2 or 3, ..., H, D)."""
    bias = torch.full((len(prompts), 1, 1, columns), -torch.inf)
    caches = torch.zeros(2, len(prompts), HEADS, columns, SIZE)
    for row, prompt in enumerate(prompts):
        caches[:, row, :, : prompt.shape[1]] = prompt.transpose(1, 2)
        bias[row, ..., : prompt.shape[1]] = 0
    layer = AnswerAttention(caches[0], caches[1], copies=copies, new_tokens=len(steps))
    room = room_for(steps[0][0])
    found = [layer.attend(*step, bias, token=token, room=room) for token, step in enumerate(steps)]
    return torch.stack(found)


def _prompts(lengths: list[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, length, HEADS, SIZE, generator=generator) for length in lengths]


def _steps(rows: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return list(torch.randn(STEPS, 3, rows, HEADS, SIZE, generator=generator))


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_it_is_attention_over_the_prompt_and_what_was_said(copies: int) -> None:
    """The result equals a softmax over all keys of a row, computed row by row."""
    prompts, steps = _prompts([5, 16]), _steps(2 * copies)
    found = _attended(prompts, copies, steps, 16)
    for row in range(2 * copies):
        own = torch.stack(steps)[:, :, row]  # (steps, 3, H, D)
        keys = torch.cat([prompts[row // copies][0], own[:, 1]])
        values = torch.cat([prompts[row // copies][1], own[:, 2]])
        scores = torch.einsum("hd,khd->hk", own[-1, 0], keys)
        expected = torch.einsum("hk,khd->hd", scores.softmax(-1), values)
        torch.testing.assert_close(found[-1, row], expected, atol=1e-5, rtol=1e-5)


def test_rows_dont_depend_on_each_other() -> None:
    """A row is bitwise identical alone, alongside a longer prompt or a duplicate, and after others are dropped."""
    prompts, steps = _prompts([5, 16, 40]), _steps(6)
    together = _attended(prompts, 2, steps, 48)
    for row, columns in ((0, 16), (3, 16), (4, 48)):
        alone = _attended([prompts[row // 2]], 1, [step[:, row : row + 1] for step in steps], columns)
        assert torch.equal(alone[:, 0], together[:, row])


def test_dropped_rows_change_nothing_for_the_others() -> None:
    """One answer of a pair continues without the other."""
    steps = _steps(4)
    cache = torch.stack(_prompts([16, 16])).permute(1, 0, 3, 2, 4)
    whole, kept = (AnswerAttention(*cache.contiguous(), copies=2, new_tokens=9) for _ in range(2))
    bias, rows = torch.zeros(2, 1, 1, 16), torch.tensor([1, 2, 3])
    for token, step in enumerate(steps[:9]):
        expected = whole.attend(*step, bias, token=token, room=room_for(step[0]))
        if token == 4:
            kept.keep(rows)
        if token >= 4:
            found = kept.attend(*step[:, rows], bias[rows // 2], token=token, room=room_for(step[0, rows]))
            assert torch.equal(found, expected[rows])
        else:
            kept.attend(*step, bias, token=token, room=room_for(step[0]))
