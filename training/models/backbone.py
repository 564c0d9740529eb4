"""A uniform view of any decoder-only transformer: embed, run blocks, normalise, project.

Training needs the activations *between* two blocks, so that frozen layers run once and their output is reused.
Hugging Face models don't expose them, so an adapter per architecture does.

Legend: B batch, T tokens, H hidden size, V vocabulary, N selected tokens.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from training.errors import ModelError
from training.fast import FrozenHead, thawed
from training.models.structure import BlockCall, Structure, calls_of, logits_of, tensors_outside

_WITHOUT_LIMIT = 2**20  # tokens, for models whose positions have no end


@dataclass(frozen=True, slots=True)
class BlockContext:
    """What blocks need besides the hidden states, computed once per batch.

    positions: (B, T) long, counted over real tokens.
    mask: (B, T) bool, the real tokens; None where causality alone hides the padding.
    calls: what each block is passed, for instance its attention mask or rotary embeddings; lowest block first.
    """

    positions: Tensor
    mask: Tensor | None
    calls: Sequence[BlockCall]


class TopLayers(nn.Module):
    """The blocks from some depth up and the final norm: the part of a model that is trained.

    Args:
        blocks: transformer blocks, lowest first.
        norm: the final norm.
        start: the depth of the lowest of them.

    Attributes:
        recompute: whether to compute the blocks again in the backward pass instead of keeping what is inside them.
    """

    def __init__(self, blocks: Sequence[nn.Module], norm: nn.Module, start: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm
        self.start = start
        self.recompute = False

    def forward(self, hidden: Tensor, context: BlockContext) -> Tensor:
        """Map hidden states (B, T, H) at this part's depth to final, normalised hidden states (B, T, H)."""
        return self.norm(self.run(hidden, context, len(self.blocks)))  # type: ignore[no-any-return]

    def run(self, hidden: Tensor, context: BlockContext, stop: int) -> Tensor:
        """Run its first `stop` blocks on hidden states (B, T, H)."""
        for block, call in zip(self.blocks[:stop], context.calls[self.start :], strict=False):
            if self.recompute and torch.is_grad_enabled():
                hidden = checkpoint(call, block, hidden, use_reentrant=False)
            else:
                hidden = call(block, hidden)
        return hidden


class Backbone:
    """A causal language model in parts, whatever its architecture; see `training/models/structure.py`.

    Args:
        model: the Hugging Face model; its weights are used in place, not copied.
        structure: where its parts are.
    """

    def __init__(self, model: Any, structure: Structure) -> None:
        self.model = model
        self.structure = structure

    @property
    def embeddings(self) -> Mapping[str, nn.Module]:
        """The modules outside blocks and norm, the output head among them, by attribute path in the model."""
        inside = [self.structure.blocks, *([] if self.structure.norm is None else [self.structure.norm])]
        return {path: self.model.get_submodule(path) for path in tensors_outside(self.model, inside)}

    @property
    def blocks(self) -> nn.ModuleList:
        """All blocks, lowest first."""
        blocks: nn.ModuleList = self.model.get_submodule(self.structure.blocks)
        return blocks

    @property
    def norm(self) -> nn.Module:
        """The final norm; it changes nothing in a model that has none."""
        return nn.Identity() if self.structure.norm is None else self.model.get_submodule(self.structure.norm)

    @property
    def hidden_size(self) -> int:
        """H."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def max_positions(self) -> int:
        """The longest sequence the model can read, in tokens: its positions, or the window that all its layers share.

        Where only some layers have a window, the others read everything, and so does the model.
        """
        config = self.model.config.get_text_config()
        names = ("max_position_embeddings", "max_seq_len", "seq_length")
        known = (getattr(config, name, None) for name in names)
        positions = next((int(value) for value in known if value), _WITHOUT_LIMIT)
        window = getattr(config, "sliding_window", None)
        kinds = set(getattr(config, "layer_types", None) or ["sliding_attention"])
        return min(positions, int(window)) if window and kinds == {"sliding_attention"} else positions

    def context(self, mask: Tensor) -> BlockContext:
        """What blocks need for a batch whose real tokens are `mask` (B, T) bool, padded on either side."""
        seen, positions = without_right_padding(mask)
        with torch.no_grad():
            ids = torch.zeros_like(mask, dtype=torch.long)
            _, calls = calls_of(self.model, self.structure, ids, seen, positions)
        return BlockContext(positions, seen, [_attending_to_itself(call) for call in calls])

    def embed(self, ids: Tensor, context: BlockContext) -> Tensor:
        """Token ids (B, T) long to the hidden states (B, T, H) that enter the first block."""
        if self.structure.plain_embedding:
            return self.model.get_input_embeddings()(ids)  # type: ignore[no-any-return]
        return calls_of(self.model, self.structure, ids, context.mask, context.positions)[0]

    def logits(self, hidden: Tensor) -> Tensor:
        """Final, normalised hidden states (..., H) to logits (..., V)."""
        if self.structure.plain_head:
            return self.model.get_output_embeddings()(hidden)  # type: ignore[no-any-return]
        return logits_of(self.model, self.structure, hidden)

    def frozen_head(self) -> FrozenHead:
        """Log-probs under the output head, which is no longer trained."""
        return FrozenHead(self.model.get_output_embeddings() if self.structure.plain_head else self.logits)

    @property
    def n_layers(self) -> int:
        """The number of blocks."""
        return len(self.blocks)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.blocks.parameters()).device

    def run(self, hidden: Tensor, context: BlockContext, start: int, stop: int) -> Tensor:
        """Run blocks `start` to `stop` (exclusive) on hidden states (B, T, H)."""
        for index in range(start, stop):
            hidden = context.calls[index](self.blocks[index], hidden)
        return hidden

    def finish_at(self, top: TopLayers, hidden: Tensor, context: BlockContext, places: Tensor) -> Tensor:
        """Apply `top` to hidden states (B, T, H), keeping only `places` (B, K) long of each row: (B, K, H).

        An architecture may override it to skip the last layer's work at all other tokens.
        """
        rows = torch.arange(len(hidden), device=hidden.device)[:, None]
        return top(hidden, context)[rows, places]  # type: ignore[no-any-return]

    def activations(self, ids: Tensor, context: BlockContext, depths: Iterable[int]) -> dict[int, Tensor]:
        """Hidden states (B, T, H) entering the block at each depth, for ids (B, T) long, in one pass. No gradient."""
        found: dict[int, Tensor] = {}
        with torch.no_grad():
            hidden, reached = self.embed(ids, context), 0
            for depth in sorted(set(depths)):
                hidden, reached = self.run(hidden, context, reached, depth), depth
                found[depth] = hidden
        return found

    def top(self, start: int) -> TopLayers:
        """The blocks from `start` up and the final norm, sharing their weights with the model."""
        return TopLayers(list(self.blocks[start:]), self.norm, start)

    def copy_of_top(self, start: int) -> TopLayers:
        """The same, with their own weights, in float32."""
        return thawed(copy.deepcopy(self.top(start)))

    def trunk_parameters(self, depth: int) -> Iterator[tuple[str, Tensor]]:
        """Names and values of everything below block `depth`: embeddings, rotary frequencies, output head, blocks."""
        for path, module in self.embeddings.items():
            for name, value in (*module.named_parameters(), *module.named_buffers()):
                yield f"{path}.{name}", value
        for index, block in enumerate(self.blocks[:depth]):
            for name, value in block.named_parameters():
                yield f"blocks.{index}.{name}", value

    def trunk_digest(self, depth: int) -> str:
        """A hash of everything below block `depth`, to tell whether two models share it bit for bit."""
        return tensor_digest(self.trunk_parameters(depth))

    def share_trunk(self, base: Backbone, depth: int) -> None:
        """Replace this model's modules below block `depth` with `base`'s, so that their weights are held only once.

        Raises:
            ModelError: the two differ there, so shared activations would be wrong.
        """
        if base.n_layers != self.n_layers:
            raise ModelError(
                "the policy isn't a version of the base model",
                got=f"{self.n_layers} layers",
                expected=f"{base.n_layers} layers",
            )
        theirs = dict(base.trunk_parameters(depth))
        ours = dict(self.trunk_parameters(depth))
        differing = [name for name in theirs if name not in ours or not _same(ours[name], theirs[name])]
        if differing or len(ours) != len(theirs):
            raise ModelError(
                "the policy's frozen layers differ from the base model's",
                got=differing[:3] or sorted(set(ours) - set(theirs))[:3],
                expected=f"embeddings and the first {depth} layers bit for bit as in the base",
                remedy="Start from the base or from a version trained from it, with the same trainable_layers.",
            )
        for path, module in base.embeddings.items():
            self.model.set_submodule(path, module)
        for index in range(depth):
            self.blocks[index] = base.blocks[index]


def tensor_digest(named: Iterable[tuple[str, Tensor]]) -> str:
    """A hash of tensors with their names, shapes and dtypes, in the order given.

    bfloat16 counts as the float32 that it stands for: weights are held in it only where nothing is lost.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, held in named:
        value = held.float() if held.dtype == torch.bfloat16 else held
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def position_ids(mask: Tensor) -> Tensor:
    """Positions (B, T) long over real tokens of `mask` (B, T) bool, padded on either side; 0 at padding."""
    return ((mask.long().cumsum(dim=1) - 1) * mask).clamp(min=0)


def without_right_padding(mask: Tensor) -> tuple[Tensor | None, Tensor]:
    """A mask (B, T) bool as a model must see it, and the positions (B, T) long of its tokens.

    Padding on the right comes after every real token, so no real token sees it: there the mask is None, which lets
    attention take its fast path, and the padding is counted on.
    """
    if bool((mask[:, 1:] & ~mask[:, :-1]).any()):
        return mask, position_ids(mask)
    return None, torch.arange(mask.shape[1], device=mask.device).expand(mask.shape)


def attention_mask(mask: Tensor) -> Tensor:
    """(B, 1, T, T) bool, True where a query may attend: to earlier real tokens and to itself."""
    length = mask.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    itself = torch.eye(length, dtype=torch.bool, device=mask.device)
    return ((causal & mask[:, None, :]) | itself)[:, None]


def _attending_to_itself(call: BlockCall) -> BlockCall:
    """The call with a mask that lets every query see itself: a softmax over nothing, at padding, would be NaN."""
    mask = call.kwargs.get("attention_mask")
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        return call
    if mask.shape[-1] != mask.shape[-2] or mask.shape[-1] == 1:
        return call
    itself = torch.eye(mask.shape[-1], dtype=torch.bool, device=mask.device)
    # The first token never sees the last one, so where that is True, a mask says what is hidden.
    hides = bool(mask[..., 0, -1].any())
    return BlockCall(call.args, {**call.kwargs, "attention_mask": mask & ~itself if hides else mask | itself})


def _same(left: Tensor, right: Tensor) -> bool:
    """Whether two tensors hold the same numbers, in whatever format."""
    return left is right or (left.shape == right.shape and torch.equal(left.to(right.device).float(), right.float()))
