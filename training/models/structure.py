"""Where a decoder-only model keeps its parts, found by running it once on a few tokens instead of by its name.

A model is embeddings, blocks, a final norm and a head, with code of its own between them: masks, positions, rotations,
scaled embeddings, capped logits. That code isn't repeated here. It runs as it stands, in a copy of the model whose
blocks are replaced by stand-ins: before the blocks, to see what the model passes to each of them; after them, to turn
final states into logits.

Legend: B batch, T tokens, H hidden size, V vocabulary.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from training.errors import ModelError


@dataclass(frozen=True, slots=True)
class Structure:
    """A model's parts, as attribute paths.

    blocks: the list of blocks.
    norm: the final norm, None if the last block's output goes on as it is.
    decoder: the innermost module around the blocks that reads token ids.
    outputs: how many values a block returns in a tuple, 0 if it returns its hidden states alone.
    plain_embedding: whether the first block reads nothing but the token embedding.
    plain_head: whether logits are nothing but the output layer applied to the final states.
    """

    blocks: str
    norm: str | None
    decoder: str
    outputs: int
    plain_embedding: bool = False
    plain_head: bool = False


@dataclass(frozen=True, slots=True)
class BlockCall:
    """What a model passes to one block besides the hidden states."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def __call__(self, block: nn.Module, hidden: Tensor) -> Tensor:
        """Run a block on hidden states (B, T, H)."""
        found = block(hidden, *self.args, **self.kwargs)
        return found if isinstance(found, Tensor) else found[0]


def calls_of(
    model: Any, structure: Structure, ids: Tensor, mask: Tensor | None, positions: Tensor
) -> tuple[Tensor, list[BlockCall]]:
    """What a model passes to its blocks, without running them.

    Args:
        model: a transformers PreTrainedModel.
        structure: its parts.
        ids: (B, T) long.
        mask: (B, T) bool, None where causality alone hides the padding.
        positions: (B, T) long; a model that derives positions from the mask doesn't get them.

    Returns:
        The hidden states (B, T, H) that enter the first block, and every block's other arguments.
    """
    blocks: nn.ModuleList = model.get_submodule(structure.blocks)
    seen: list[tuple[Tensor, BlockCall]] = []
    stand_ins = nn.ModuleList([_Recorder(block, structure.outputs, seen) for block in blocks])
    inside = structure.blocks.removeprefix(structure.decoder).lstrip(".")
    decoder = with_replaced(model.get_submodule(structure.decoder), {inside: stand_ins})
    optional = {"position_ids": positions, "use_cache": False}
    takes = inspect.signature(decoder.forward).parameters
    decoder(
        input_ids=ids,
        attention_mask=None if mask is None else mask.long(),
        **{name: value for name, value in optional.items() if name in takes},
    )
    return seen[0][0], [call for _, call in seen]


def logits_of(model: Any, structure: Structure, hidden: Tensor) -> Tensor:
    """Final, normalised hidden states (..., H) to logits (..., V), by the model's own code after its norm."""
    states = hidden.reshape(-1, 1, hidden.shape[-1])
    blocks: nn.ModuleList = model.get_submodule(structure.blocks)
    stand_ins: list[nn.Module] = [_Recorder(block, structure.outputs, []) for block in blocks]
    if structure.norm is None:
        stand_ins[-1] = _Known(states, structure.outputs)
    replaced: dict[str, nn.Module] = {structure.blocks: nn.ModuleList(stand_ins)}
    if structure.norm is not None:
        replaced[structure.norm] = _Known(states, 0)
    ids = torch.zeros(states.shape[:2], dtype=torch.long, device=states.device)
    found = with_replaced(model, replaced)(input_ids=ids, use_cache=False).logits
    return found.view(*hidden.shape[:-1], -1)  # type: ignore[no-any-return]


def structure_of(model: Any, ids: Tensor) -> tuple[Structure, Tensor]:
    """Find a model's parts by watching it read token ids (1, T) long.

    Returns:
        The parts, and the model's own logits (1, T, V).

    Raises:
        ModelError: its blocks can't be found.
    """
    path = _blocks_path(model)
    blocks: nn.ModuleList = model.get_submodule(path)
    found = _watch(model, path, ids)
    outputs = 0 if isinstance(found.last_output, Tensor) else len(found.last_output)
    last = found.last_output if outputs == 0 else found.last_output[0]
    if found.order != list(range(len(blocks))) or not isinstance(last, Tensor) or last.shape != found.entering.shape:
        raise unsupported(model, "its blocks don't run once each, one after another")
    structure = Structure(path, _norm_path(model, found, last), _decoder_path(model, path), outputs)
    embedding = model.get_input_embeddings()
    plain_embedding = embedding is not None and _same(embedding(ids), found.entering)
    norm = None if structure.norm is None else model.get_submodule(structure.norm)
    final = last if norm is None else norm(last)
    head = model.get_output_embeddings()
    plain_head = (
        isinstance(head, nn.Linear) and head.in_features == final.shape[-1] and _same(head(final), found.logits)
    )
    return Structure(path, structure.norm, structure.decoder, outputs, plain_embedding, plain_head), found.logits


def with_replaced(model: nn.Module, modules: Mapping[str, nn.Module]) -> Any:
    """A shallow copy of a model with other modules at some paths; everything else is shared, and nothing changed."""
    root = _shallow(model)
    own = {"": root}
    for path, module in modules.items():
        parent, reached = root, ""
        *way, name = path.split(".")
        for step in way:
            reached = f"{reached}.{step}"
            if reached not in own:
                own[reached] = parent._modules[step] = _shallow(parent._modules[step])
            parent = own[reached]
        parent._modules[name] = module
    return root


def unsupported(model: Any, reason: str) -> ModelError:
    """The error for a model that can't be trained."""
    return ModelError(
        f"this model can be sampled from at best, but not trained: {reason}",
        got=str(getattr(getattr(model, "config", None), "model_type", type(model).__name__)),
        expected="a decoder-only transformer whose blocks attend to earlier tokens",
        remedy="Choose another base model; docs/models.md says which ones train.",
    )


class _Recorder(nn.Module):
    """Stands in for a block: notes what it is given and passes the hidden states on."""

    def __init__(self, block: nn.Module, outputs: int, seen: list[tuple[Tensor, BlockCall]]) -> None:
        super().__init__()
        self.__dict__["_block"] = block  # not as a submodule
        self._outputs, self._seen = outputs, seen

    def __getattr__(self, name: str) -> Any:
        """A model may look at its blocks, for instance at the kind of their attention."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_block"], name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        hidden = args[0] if args else kwargs.pop("hidden_states")
        self._seen.append((hidden, BlockCall(args[1:], kwargs)))
        return _as_block_output(hidden, self._outputs)


class _Known(nn.Module):
    """Stands in for the last module before the head: gives states that are known already."""

    def __init__(self, states: Tensor, outputs: int) -> None:
        super().__init__()
        self._states, self._outputs = states, outputs

    def forward(self, *_args: Any, **_kwargs: Any) -> Any:
        return _as_block_output(self._states, self._outputs)


@dataclass(slots=True)
class _Watched:
    """What was seen while a model read a few tokens; `after` are the modules called behind the last block."""

    order: list[int]
    entering: Tensor
    last_output: Any
    after: list[tuple[str, Any, Any]]
    logits: Tensor


def _watch(model: Any, path: str, ids: Tensor) -> _Watched:
    blocks: nn.ModuleList = model.get_submodule(path)
    seen = _Watched([], torch.empty(0), None, [], torch.empty(0))
    hooks = []

    def before(index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if index == 0:
            seen.entering = args[0] if args else kwargs["hidden_states"]
        seen.order.append(index)

    def behind(name: str, given: tuple[Any, ...], output: Any) -> None:
        if len(seen.order) >= len(blocks):
            seen.after.append((name, given[0] if given else None, output))

    for index, block in enumerate(blocks):
        hooks.append(
            block.register_forward_pre_hook(lambda _m, a, k, index=index: before(index, a, k), with_kwargs=True)
        )
    hooks.append(blocks[-1].register_forward_hook(lambda _m, _a, out: setattr(seen, "last_output", out)))
    for name, module in model.named_modules():
        if name and not f"{name}.".startswith(f"{path}.") and not path.startswith(f"{name}."):
            hooks.append(module.register_forward_hook(lambda _m, a, out, name=name: behind(name, a, out)))
    try:
        seen.logits = model(input_ids=ids, use_cache=False).logits
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _blocks_path(model: Any) -> str:
    """The outermost list of as many alike modules as the model has layers."""
    layers = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    found = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == layers and any(True for _ in module.parameters())
    ]
    outermost = [name for name in found if not any(name.startswith(f"{other}.") for other in found)]
    if len(outermost) != 1:
        raise unsupported(model, "its blocks can't be found")
    return str(outermost[0])


def _decoder_path(model: Any, blocks: str) -> str:
    """The innermost module around the blocks whose forward takes `input_ids`; the model itself at the outside."""
    way = blocks.split(".")[:-1]
    for end in range(len(way), 0, -1):
        path = ".".join(way[:end])
        if "input_ids" in inspect.signature(model.get_submodule(path).forward).parameters:
            return path
    return ""


def _norm_path(model: Any, seen: _Watched, last: Tensor) -> str | None:
    """The module that reads the last block's output, if it is a norm: neither a projection nor the head."""
    reading = [(name, output) for name, given, output in seen.after if given is last and isinstance(output, Tensor)]
    if not reading:
        return None
    name, output = reading[0]
    has_matrix = any(value.ndim > 1 for value in model.get_submodule(name).parameters())
    return None if has_matrix or output.shape != last.shape else str(name)


def _shallow(module: Any) -> Any:
    copied = copy.copy(module)
    copied.__dict__["_modules"] = dict(module._modules)
    return copied


def _as_block_output(hidden: Tensor, outputs: int) -> Tensor | tuple[Tensor | None, ...]:
    return (hidden, *[None] * (outputs - 1)) if outputs else hidden


def _same(ours: Tensor, theirs: Tensor) -> bool:
    return ours.shape == theirs.shape and torch.equal(ours, theirs)


def tensors_outside(model: nn.Module, inside: Sequence[str]) -> list[str]:
    """Paths of the outermost modules with weights or buffers that neither lie in nor around the paths `inside`."""
    found: list[str] = []
    for name, module in model.named_modules():
        taken = any(f"{name}.".startswith(f"{other}.") for other in (*inside, *found))
        around = not name or any(other.startswith(f"{name}.") for other in inside)
        if not taken and not around and any(True for _ in (*module.parameters(), *module.buffers())):
            found.append(name)
    return found
