"""Decoding on a CPU with OpenVINO: any decoder-only architecture, traced once, with weights that follow the model's.

Legend: N prompts, P tokens of the longest, B answers (rows), T tokens read at a time, V vocabulary.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from training.fast import SamplingPrecision, compute_dtype
from training.models import pad_left, position_ids
from training.sampling.openvino_graph import stateful_graph
from training.sampling.openvino_runtime import openvino
from training.sampling.openvino_trace import NotConvertibleError
from training.sampling.openvino_weights import GraphWeights

_TOKENS_AT_ONCE = 2048  # of prompts: as fast as more of them, in less memory
_WORTH_A_PASS = 32  # tokens of padding; what one more pass costs is reading the weights once more
_MOST_DIFFERENT = {"f32": 1e-3, "bf16": 0.25}
"""Mean difference from the model's own logits, in their standard deviations, above which a trace is wrong."""
_tracing = threading.Lock()  # the tracer keeps its state in global variables


class OpenVINOEngine:
    """A model compiled for this CPU with its current weights.

    Args:
        model: a transformers PreTrainedModel on the CPU; its linear layers may be held in bfloat16.
        precision: `auto` is bfloat16 where the CPU has it and the model is wide enough; `int8` rounds weights.

    Raises:
        NotConvertibleError: the model does something that the trace doesn't follow.
    """

    def __init__(self, model: Any, precision: SamplingPrecision) -> None:
        self._model, self._precision = model, precision
        width = int(model.config.get_text_config(decoder=True).hidden_size)
        dtype = compute_dtype(model.device, "auto" if precision == "int8" else precision, width)
        self._format = "bf16" if dtype == torch.bfloat16 else "f32"
        with _tracing:
            self._graph, self.bytes_per_token = stateful_graph(model)
        self._weights = GraphWeights(self._graph, model, int8=precision == "int8")
        self._compile()
        _check(self, model, 0.25 if precision == "int8" else _MOST_DIFFERENT[self._format])

    def fits(self, model: Any) -> bool:
        """Whether this is that model's engine, on its current device."""
        return self._model is model and model.device.type == "cpu"

    def refresh(self) -> None:
        """Take over what has changed in the model since the last call; answers being decoded aren't moved by it."""
        if self._weights.take(self._model) or self._threads != torch.get_num_threads():
            self._compile()

    def start(self, ids: Tensor, mask: Tensor, *, copies: int) -> OpenVINODecoder:
        """Read prompts (N, P) long, padded on the left as in `mask` (N, P) bool, for `copies` answers to each."""
        return OpenVINODecoder(self._compiled, ids, mask, copies=copies)

    def _compile(self) -> None:
        self._threads = torch.get_num_threads()
        self._compiled = openvino().Core().compile_model(self._graph, "CPU", self._options())

    def _options(self) -> dict[str, Any]:
        """How to compile: for one batch at a time, on as many threads as PyTorch has, wherever the system puts them."""
        return {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self._threads,
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": self._format,
            "KV_CACHE_PRECISION": self._format,
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,  # which would round activations too
        }


class OpenVINODecoder:
    """One batch of answers; see `training.sampling.decoders.Decoder`.

    Args:
        compiled: a graph from `stateful_graph`, compiled.
        ids: (N, P) long, padded on the left.
        mask: (N, P) bool.
        copies: answers per prompt.
    """

    logits: Tensor

    def __init__(self, compiled: Any, ids: Tensor, mask: Tensor, *, copies: int) -> None:
        self._request = compiled.create_infer_request()  # with a cache of its own
        self.logits = torch.empty(0)
        self._mask = mask.long()
        self._positions = position_ids(mask)
        self._rows = torch.zeros(0, dtype=torch.long)  # the cached row that each row continues
        lengths = self._mask.sum(dim=1)
        known = torch.zeros(len(ids), dtype=torch.long)  # the cached row of each prompt
        for start, end in read_in_passes(lengths.tolist(), _TOKENS_AT_ONCE, _WORTH_A_PASS):
            begun = (lengths > ids.shape[1] - end).nonzero().squeeze(1)
            self._rows = known[begun]  # for one that only begins here any row does: it sees nothing of it
            self._infer(ids[begun, start:end], self._mask[begun, :end], self._positions[begun, start:end])
            known[begun] = self._rows
        self._select(self._rows.repeat_interleave(copies))
        self._positions = self._mask.sum(dim=1, keepdim=True)

    def advance(self, tokens: Tensor) -> None:
        """Append one token (B,) long to each row."""
        self._mask = F.pad(self._mask, (0, 1), value=1)
        self._infer(tokens[:, None], self._mask, self._positions)
        self._positions = self._positions + 1

    def keep(self, rows: Tensor) -> None:
        """Continue with only `rows` (M,) long."""
        self._select(rows)
        self._positions = self._positions[rows]

    def _select(self, rows: Tensor) -> None:
        """The next pass continues these of the current rows."""
        self._rows, self._mask, self.logits = self._rows[rows], self._mask[rows], self.logits[rows]

    def _infer(self, ids: Tensor, mask: Tensor, positions: Tensor) -> None:
        """Read ids (B, T) after the cached tokens; sets the next token's logits (B, V)."""
        self._request.infer(
            {
                "ids": ids.numpy(),
                "mask": mask.numpy(),
                "positions": positions.numpy(),
                "beam_idx": self._rows.int().numpy(),
            }
        )
        self.logits = torch.from_numpy(self._request.get_output_tensor(0).data)
        self._rows = torch.arange(len(ids))


def read_in_passes(lengths: Sequence[int], most: int, worth_a_pass: int) -> list[tuple[int, int]]:
    """The columns [start, end) to read at a time of prompts padded on the left.

    A pass reads only the prompts that have begun by its end. More passes therefore read less padding, but each costs as
    much as `worth_a_pass` tokens. These are the ones that cost least, cut where they hold more than `most` tokens.

    Args:
        lengths: of N prompts in tokens.
        most: tokens in a pass, unless there are more prompts.
        worth_a_pass: in tokens.
    """
    columns = max(lengths)
    ends = sorted({columns - length for length in lengths} | {columns})  # reading may pause where a prompt begins
    begun = [sum(columns - length < end for length in lengths) for end in ends]
    least: list[tuple[float, int]] = [(0, 0)]  # by end: the cost so far, and which end the last pass starts from
    for last in range(1, len(ends)):
        costs = [
            (least[first][0] + (ends[last] - ends[first]) * begun[last] + worth_a_pass, first) for first in range(last)
        ]
        least.append(min(costs))
    passes: list[tuple[int, int]] = []
    last = len(ends) - 1
    while last:
        first = least[last][1]
        step = max(1, most // begun[last])
        parts = [(start, min(start + step, ends[last])) for start in range(ends[first], ends[last], step)]
        passes, last = parts + passes, first
    return passes


@torch.no_grad()
def _check(engine: OpenVINOEngine, model: Any, most: float) -> None:
    """Compare with the model's own forward on a few tokens, since a trace can be wrong without failing.

    Raises:
        NotConvertibleError: they differ by more than the number format explains.
    """
    texts, tokens = [[5, 3, 8, 13, 2], [11, 7]], torch.tensor([4, 9])
    ids, mask = pad_left(texts, 0)
    decoder = engine.start(ids, mask, copies=1)
    decoder.advance(tokens)
    for row, text in enumerate(texts):
        whole = torch.tensor([[*text, int(tokens[row])]])
        with torch.autocast("cpu", enabled=False):
            expected = model(input_ids=whole, attention_mask=torch.ones_like(whole)).logits[0, -1].float()
        difference = float((decoder.logits[row] - expected).abs().mean() / (expected.std() + 1e-6))
        if not difference < most:
            raise NotConvertibleError(f"its logits differ from the model's own by {difference:.2g} standard deviations")
