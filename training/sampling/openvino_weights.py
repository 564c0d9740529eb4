"""A graph's weights: which constant holds which of the model's, and putting new values in their place.

OpenVINO's constants may lie on the same memory as the model's weights, so a training step would move, in part, what has
long been compiled. So weights that are being trained are copied; frozen ones are shared, which saves their memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from training.fast import identity
from training.sampling.openvino_runtime import openvino

_PREFIX = "self.model."  # how the tracer names the model within its module
_LARGEST = 127  # largest integer on either side of zero
_SMALLEST = 1e-30  # lower bound of a scale, for outputs whose weights are all zeros
_FEWEST_FOR_INT8 = 2**16  # weights in a layer for which rounding them pays


class GraphWeights:
    """The constants of a graph, kept in step with a model's weights.

    Args:
        graph: from `stateful_graph`.
        model: the model it was traced from.
        int8: whether to round the weights of matrix products to 8-bit integers, with a scale for each output.
    """

    def __init__(self, graph: Any, model: Any, *, int8: bool) -> None:
        self._int8 = int8
        self._uses = _uses(graph)
        self._copies: dict[str, Tensor] = {}
        self._seen: dict[str, tuple[Any, ...]] = {}
        for name, weight in _named_weights(model):
            self._put(name, weight, copied=weight.requires_grad)

    def take(self, model: Any) -> bool:
        """Put the model's weights that have changed in place; returns whether there were any.

        Weights in training are compared with their copies, because fused optimizers bypass PyTorch's version counter.
        Frozen ones are taken if they are others, or if their counter has moved.
        """
        changed = [(name, weight) for name, weight in _named_weights(model) if self._is_new(name, weight)]
        for name, weight in changed:
            self._put(name, weight, copied=True)
        return bool(changed)

    def _is_new(self, name: str, weight: Tensor) -> bool:
        copy = self._copies.get(name)
        if copy is not None and weight.requires_grad:
            return not (copy.shape == weight.shape and bool(copy.eq(weight.detach()).all()))
        return self._seen.get(name) != identity(weight)

    def _put(self, name: str, weight: Tensor, *, copied: bool) -> None:
        """Let the constants of a weight hold its value."""
        self._seen[name] = identity(weight)
        value = weight.detach()
        if copied:
            self._copies[name] = value = value.clone()
        for use in self._uses.get(name, ()):
            axis = use.outputs_axis
            if self._int8 and axis is not None and value.numel() >= _FEWEST_FOR_INT8:
                use.port.replace_source_output(_rounded(value, axis).output(0))
            elif copied:
                constant = openvino().op.Constant(value.float().numpy(), shared_memory=True)
                use.port.replace_source_output(constant.output(0))


@dataclass(frozen=True, slots=True)
class _Use:
    """An input of an operation that a weight's constant feeds.

    outputs_axis: the axis of the weight that its outputs lie along, if the operation is a matrix product.
    """

    port: Any
    outputs_axis: int | None


def _uses(graph: Any) -> dict[str, list[_Use]]:
    """By the weight's name in the model."""
    found: dict[str, list[_Use]] = {}
    for node in graph.get_ops():
        name = node.get_friendly_name()
        if node.get_type_name() != "Constant" or not name.startswith(_PREFIX):
            continue
        for port in _float32_inputs(node):
            user = port.get_node()
            is_product = user.get_type_name() == "MatMul" and len(node.get_output_shape(0)) == 2 and port.get_index()
            axis = (0 if user.get_attributes()["transpose_b"] else 1) if is_product else None
            found.setdefault(name.removeprefix(_PREFIX), []).append(_Use(port, axis))
    return found


def _float32_inputs(node: Any) -> Iterator[Any]:
    """The inputs that a node feeds, behind the conversion of what is held in bfloat16."""
    for port in node.output(0).get_target_inputs():
        if port.get_node().get_type_name() == "Convert":
            yield from _float32_inputs(port.get_node())
        else:
            yield port


def _named_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Every weight under each of its names; tied ones have several."""
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _rounded(weight: Tensor, outputs_axis: int) -> Any:
    """A weight as 8-bit integers times a scale for each output."""
    ops = openvino().opset13
    values = weight.float().numpy()
    scale = np.maximum(np.abs(values).max(axis=1 - outputs_axis, keepdims=True) / _LARGEST, _SMALLEST)
    integers = np.rint(values / scale).astype(np.int8)
    return ops.multiply(ops.convert(ops.constant(integers), "f32"), ops.constant(scale.astype(np.float32)))
