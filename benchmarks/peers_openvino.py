"""OpenVINO GenAI with its own exporter and batching: `python -m benchmarks.peers_openvino WHAT MODEL_FOLDER`.

Runs in an environment of its own, since the exporter takes an older transformers.
"""

from __future__ import annotations

import sys
import tempfile
from typing import Any

from benchmarks import workload
from benchmarks.turns import Turns, threads

_CACHE_GB = 2


def serve(turns: Turns, folder: str, prompts: list[list[int]], *, int8: bool) -> None:
    """Answer prompts by continuous batching; every answer has the same number of tokens."""
    import numpy as np
    import openvino
    import openvino_genai as engine
    from openvino_tokenizers import convert_tokenizer
    from optimum.intel import OVModelForCausalLM
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as place:
        exported: Any = OVModelForCausalLM.from_pretrained(folder, export=True, load_in_8bit=int8, compile=False)
        exported.save_pretrained(place)
        try:
            tokenizer = convert_tokenizer(AutoTokenizer.from_pretrained(folder), with_detokenizer=True)
        except Exception:  # the random model's tokenizer of whole words can't be converted; any other will do
            tokenizer = convert_tokenizer(AutoTokenizer.from_pretrained(sys.argv[3]), with_detokenizer=True)
        for part, name in zip(tokenizer, ("tokenizer", "detokenizer"), strict=True):
            openvino.save_model(part, f"{place}/openvino_{name}.xml")
        memory = engine.SchedulerConfig()
        memory.cache_size = _CACHE_GB
        pipeline = engine.ContinuousBatchingPipeline(place, memory, "CPU", {"INFERENCE_NUM_THREADS": threads()})
    how = engine.GenerationConfig()
    how.do_sample, how.top_k, how.top_p, how.ignore_eos = True, workload.TOP_K, workload.TOP_P, True
    how.max_new_tokens, how.num_return_sequences = workload.NEW_TOKENS, workload.ANSWERS
    given = [openvino.Tensor(np.array([tokens], dtype=np.int64)) for tokens in prompts]

    def work() -> None:
        found = pipeline.generate(given, [how] * len(given))
        made = sum(len(ids) for result in found for ids in result.m_generation_ids)
        if made != len(given) * workload.ANSWERS * workload.NEW_TOKENS:
            raise RuntimeError(f"OpenVINO generated {made} tokens")

    turns.serve(work)


def main() -> None:
    """Take part in one of the parts: `propose`, `pair`, each also with `_llama`, or with `_int8` behind."""
    part = sys.argv[1].removesuffix("_int8")
    serve(Turns(), sys.argv[2], workload.prompts_of(part), int8=sys.argv[1].endswith("_int8"))


if __name__ == "__main__":
    main()
