"""Log-probs under the frozen output head, without ever holding the logits of a whole batch.

A batch of answers has hundreds of tokens, and GPT-2 50,000 logits for each: hundreds of megabytes that would pass
through memory half a dozen times to yield one number per token. So the head processes a few tokens at a time, which
stay in the processor's cache, and while it has their probabilities also computes what the backward pass needs: the
derivative of each log-prob with respect to the hidden state, one vector per token.

The head isn't trained, so it is packed once for each direction. The forward pass is always in float32: GPT-2's logits
are around -100, where bfloat16 has steps of a half, and a ratio of two policies computed from such logits is mostly
noise. The backward pass uses the current number format.

Legend: N tokens, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from training.fast.packed_linear import PackedLinear, packing_works
from training.fast.precision import current_dtype

_LOGITS_AT_ONCE = 6_000_000
"""Float32 logits held at a time on a CPU: 24 MB, about what a last-level cache holds."""
_LOGITS_AT_ONCE_ON_GPU = 200_000_000


class FrozenHead:
    """Turns final hidden states into log-probs of tokens.

    Args:
        output: the model's output layer, or, for a model that does more than that to get its logits (scale or cap
            them, for instance), a function of states (n, H) to logits (n, V). Its parameters must no longer change.
    """

    def __init__(self, output: nn.Linear | Callable[[Tensor], Tensor]) -> None:
        self._output = output
        self._packed: dict[tuple[torch.dtype, bool], PackedLinear] = {}

    def logprobs(self, hidden: Tensor, tokens: Tensor, temperature: float = 1.0) -> Tensor:
        """The log-prob of each token, with a gradient for the hidden states where they require one.

        d log p(token) / d hidden = (w_token - sum_v p(v) w_v) / temperature, where w are the head's rows.

        Args:
            hidden: (N, H), final and normalised, at the positions before the tokens.
            tokens: (N,) long.
            temperature: what sampling divided the logits by.

        Returns:
            (N,) float32.
        """
        found: Tensor = _Logprobs.apply(hidden, tokens, temperature, self)  # type: ignore[no-untyped-call]
        return found

    @torch.no_grad()
    def logprobs_and_entropies(self, hidden: Tensor, tokens: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """The same without a gradient, and the entropy (N,) in nats of each token's distribution."""
        logprobs = torch.empty(len(hidden), device=hidden.device)
        entropies = torch.empty_like(logprobs)
        for part in self._parts(hidden):
            all_logprobs = self._log_softmax(hidden[part], temperature)
            logprobs[part] = _at(all_logprobs, tokens[part])
            entropies[part] = -(all_logprobs.exp() * all_logprobs).sum(dim=-1)
        return logprobs, entropies

    def _parts(self, hidden: Tensor) -> list[slice]:
        """Slices of the N tokens whose logits are computed together."""
        most = _LOGITS_AT_ONCE if hidden.device.type == "cpu" else _LOGITS_AT_ONCE_ON_GPU
        step = max(1, most // self._vocabulary(hidden))
        return [slice(start, start + step) for start in range(0, len(hidden), step)]

    def _vocabulary(self, hidden: Tensor) -> int:
        """V."""
        if isinstance(self._output, nn.Linear):
            return self._output.out_features
        return self._output(hidden[:1].float()).shape[-1] if len(hidden) else 1

    def _with_slopes(self, hidden: Tensor, tokens: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Log-probs (n,) of tokens after states (n, H), and their derivatives (n, H) with respect to the states."""
        if isinstance(self._output, nn.Linear):
            all_logprobs = self._log_softmax(hidden, temperature)
            logprobs = _at(all_logprobs, tokens)
            return logprobs, self._slopes(all_logprobs.exp_(), tokens, temperature)
        with torch.enable_grad():
            states = hidden.detach().float().requires_grad_()
            logprobs = _at(self._log_softmax(states, temperature), tokens)
            (slopes,) = torch.autograd.grad(logprobs.sum(), states)
        return logprobs.detach(), slopes

    def _log_softmax(self, hidden: Tensor, temperature: float) -> Tensor:
        """Log-probs (n, V) float32 of the whole vocabulary after states (n, H)."""
        with torch.autocast(hidden.device.type, enabled=False):
            if not isinstance(self._output, nn.Linear):
                return (self._output(hidden.float()).float() / temperature).log_softmax(dim=-1)
            logits = self._linear(torch.float32, backwards=False)(hidden.float())
            if temperature != 1.0:
                logits /= temperature
            return logits.log_softmax(dim=-1)

    def _slopes(self, probabilities: Tensor, tokens: Tensor, temperature: float) -> Tensor:
        """The derivative (n, H) float32 of each token's log-prob with respect to its state."""
        dtype = current_dtype(probabilities.device)
        with torch.autocast(probabilities.device.type, enabled=False):
            expected = self._linear(dtype, backwards=True)(probabilities.to(dtype))
        return (self._layer.weight[tokens].float() - expected.float()) / temperature

    @property
    def _layer(self) -> nn.Linear:
        """The output layer, where it is all there is."""
        assert isinstance(self._output, nn.Linear)  # noqa: S101  # callers have checked
        return self._output

    def _linear(self, dtype: torch.dtype, *, backwards: bool) -> PackedLinear:
        """The head, or its transpose."""
        if (dtype, backwards) not in self._packed:
            weight = self._layer.weight
            linear = PackedLinear(dtype, packed=weight.device.type == "cpu" and packing_works(dtype))
            linear.load(weight, None if backwards else self._layer.bias, transposed=backwards)
            self._packed[dtype, backwards] = linear
        return self._packed[dtype, backwards]


class _Logprobs(torch.autograd.Function):
    """`FrozenHead.logprobs`, which computes its derivative during the forward pass."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, tokens: Tensor, temperature: float, head: FrozenHead) -> Tensor:
        logprobs = torch.empty(len(hidden), device=hidden.device)
        slopes = torch.empty(hidden.shape, device=hidden.device) if ctx.needs_input_grad[0] else None
        for part in head._parts(hidden):
            if slopes is None:
                logprobs[part] = _at(head._log_softmax(hidden[part], temperature), tokens[part])
            else:
                logprobs[part], slopes[part] = head._with_slopes(hidden[part], tokens[part], temperature)
        ctx.slopes, ctx.dtype = slopes, hidden.dtype
        return logprobs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return (gradient[:, None] * ctx.slopes).to(ctx.dtype), None, None, None


def _at(logprobs: Tensor, tokens: Tensor) -> Tensor:
    """Each row's entry of log-probs (n, V) at its token (n,)."""
    return logprobs.gather(-1, tokens[:, None]).squeeze(-1)
