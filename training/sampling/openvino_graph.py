"""A decoder-only transformer as an OpenVINO graph with a key-value cache of its own.

Legend: B rows, T new tokens, S tokens so far with the new ones, V vocabulary.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch

from training.sampling.openvino_runtime import openvino, read_traced
from training.sampling.openvino_trace import Example, Step, refuse_what_depends_on_the_data


def stateful_graph(model: Any) -> tuple[Any, int]:
    """An `openvino.Model` that reads tokens, remembers their keys and values, and gives the next token's logits.

    Inputs: `ids` (B, T), `mask` (B, S), `positions` (B, T) and `beam_idx` (B,), the remembered row that each row
    continues. Output: logits (B, V).

    Args:
        model: a transformers PreTrainedModel on the CPU; it is left as it is.

    Returns:
        The graph, and how many bytes a token of one row takes in its cache, in float32.

    Raises:
        NotConvertibleError: it does something that tracing can't follow.
    """
    refuse_what_depends_on_the_data(model)
    example = Example.of(model)
    step = Step(model).eval()
    with torch.no_grad(), torch.autocast("cpu", enabled=False), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, about shapes that are constant on purpose
        graph = read_traced(step, example.inputs())
    _name_ports(graph, example)
    _remember(graph, example)
    return graph, sum(4 * part.shape[1] * part.shape[3] for part in example.past)


def _name_ports(graph: Any, example: Example) -> None:
    layers = range(len(example.past) // 2)
    past = [f"{kind}.{layer}" for layer in layers for kind in ("key", "value")]
    for port, name in zip(graph.inputs, ["ids", "mask", "positions", *(f"past.{item}" for item in past)], strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_friendly_name(name)
    for port, name in zip(graph.outputs, ["logits", *(f"present.{item}" for item in past)], strict=True):
        port.get_tensor().set_names({name})


def _remember(graph: Any, example: Example) -> None:
    """Turn keys and values from inputs and outputs into state, read through `beam_idx`."""
    ov = openvino()
    ops = ov.opset13
    beam = ops.parameter(ov.PartialShape([-1]), dtype=ov.Type.i32, name="beam_idx")
    beam.output(0).get_tensor().add_names({"beam_idx"})
    graph.add_parameters([beam])
    pasts = [port for port in graph.inputs if port.get_any_name().startswith("past.")]
    for port, shape in zip(pasts, (part.shape for part in example.past), strict=True):
        node = port.get_node()
        node.set_partial_shape(ov.PartialShape([-1, shape[1], -1, shape[3]]))
        users = list(port.get_target_inputs())
        chosen = ops.gather(node, beam, ops.constant(0, dtype=ov.Type.i64))
        for user in users:
            user.replace_source_output(chosen.output(0))
    for name in ("ids", "mask", "positions"):
        graph.input(name).get_node().set_partial_shape(ov.PartialShape([-1, -1]))
    graph.validate_nodes_and_infer_types()
    pairs = {port.get_any_name(): port.get_any_name().replace("past.", "present.") for port in pasts}
    ov.passes.MakeStateful(pairs).run_on_model(graph)
    _start_empty(graph)
    graph.validate_nodes_and_infer_types()


def _start_empty(graph: Any) -> None:
    """Before the first pass, each row remembers no tokens."""
    ov = openvino()
    ops = ov.opset13
    batch = ops.gather(
        ops.shape_of(graph.input("ids"), output_type="i64"), ops.constant([0], dtype=ov.Type.i64), ops.constant(0)
    )
    for op in graph.get_ops():
        if op.get_type_name() != "ReadValue":
            continue
        heads, size = (op.get_output_partial_shape(0)[axis].get_length() for axis in (1, 3))
        sizes = [ops.constant([count], dtype=ov.Type.i64) for count in (heads, 0, size)]
        shape = ops.concat([batch, *sizes], axis=0)
        empty = ops.broadcast(ops.constant(0.0, dtype=op.get_output_element_type(0)), shape)
        op.set_arguments([empty])
