"""The OpenVINO engine: fresh weights, number formats, threads, and what it does where it can't."""

from __future__ import annotations

import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import EOS, PAD, nudge, tiny_gpt2, tiny_rotary
from torch import Tensor

from training.config import SamplingConfig
from training.fast.frozen_layers import hold_narrow, thawed
from training.models.text import pad_left
from training.sampling import decoders
from training.sampling.openvino_decoder import OpenVINODecoder, OpenVINOEngine, read_in_passes
from training.sampling.sampler import Sampler
from training.sampling.torch_decoder import TorchEngine

PROMPTS = [[3], [5, 1, 4, 1, 5, 9, 2, 6], [7, 7, 7], [11, 2, 30, 8, 21]]
GREEDY = SamplingConfig(top_k=1, max_new_tokens=12)
WHOLE = SamplingConfig(top_k=0, top_p=1.0, temperature=0.7, max_new_tokens=12)


@pytest.fixture
def tiny_models_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO decodes models of any size."""
    monkeypatch.setattr("training.sampling.decoders._FEWEST_WEIGHTS", 0)
    monkeypatch.setattr("training.sampling.decoders._FEWEST_TRAINED", 0)


@torch.no_grad()
def _logits(engine: OpenVINOEngine | TorchEngine) -> Tensor:
    ids, mask = pad_left(PROMPTS, PAD)
    decoder = engine.start(ids, mask, copies=1)
    decoder.advance(torch.tensor([1, 2, 3, 4]))
    return decoder.logits.clone()


def _frozen_below(model: Any, depth: int) -> Any:
    """The model with its embeddings and lowest blocks frozen, as in PPO."""
    model.requires_grad_(requires_grad=False)
    for block in list(model.transformer.h)[depth:]:
        block.requires_grad_(requires_grad=True)
    return model


def test_a_training_step_reaches_the_engine_and_moves_no_older_decoder() -> None:
    """After weights change in place, logits equal the model's anew; answers being decoded go on with the old ones."""
    model = _frozen_below(tiny_gpt2(seed=3), 2)
    engine = OpenVINOEngine(model, "float32")
    ids, mask = pad_left(PROMPTS, PAD)
    older, twin = (engine.start(ids, mask, copies=1) for _ in range(2))
    twin.advance(torch.tensor([1, 2, 3, 4]))
    before = twin.logits.clone()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, fused=True)
    model(torch.tensor([[1, 2, 3]])).logits[..., 5].sum().backward()
    optimizer.step()
    older.advance(torch.tensor([1, 2, 3, 4]))
    assert torch.equal(older.logits, before)
    engine.refresh()
    after = _logits(engine)
    assert not torch.allclose(after, before, atol=0.1)
    torch.testing.assert_close(after, _logits(TorchEngine(model)), atol=1e-4, rtol=1e-4)


def test_replaced_layers_and_frozen_changes_are_taken() -> None:
    """A replaced block, frozen weights changed in place and tied embeddings are picked up, once more each time."""
    model = tiny_gpt2(seed=3).requires_grad_(requires_grad=False)
    engine = OpenVINOEngine(model, "float32")
    model.transformer.h[1] = tiny_gpt2(seed=8).requires_grad_(requires_grad=False).transformer.h[1]
    nudge(model.transformer.h[2].parameters(), scale=0.3)
    for scale in (0.0, 0.2):
        nudge([model.transformer.wte.weight], scale=scale)
        engine.refresh()
        torch.testing.assert_close(_logits(engine), _logits(TorchEngine(model)), atol=1e-4, rtol=1e-4)


def test_nothing_is_compiled_anew_for_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only changed weights, or another number of threads, cost anything."""
    compiled: list[int] = []
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        engine = OpenVINOEngine(_frozen_below(tiny_gpt2(seed=3), 2), "float32")
        compile_anew = engine._compile

        def counted() -> None:
            compiled.append(torch.get_num_threads())
            compile_anew()

        monkeypatch.setattr(engine, "_compile", counted)
        engine.refresh()
        assert compiled == []
        torch.set_num_threads(1)  # fewer, not more: OpenVINO takes no more threads than the machine has cores
        engine.refresh()
        engine.refresh()
    finally:
        torch.set_num_threads(threads)
    assert compiled == [1]
    assert engine._compiled.get_property("INFERENCE_NUM_THREADS") == 1


def test_long_prompts_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt read a few tokens at a time gives the same logits."""
    engine = OpenVINOEngine(tiny_rotary(), "float32")
    whole = _logits(engine)
    monkeypatch.setattr("training.sampling.openvino_decoder._TOKENS_AT_ONCE", 12)  # three of each of four prompts
    torch.testing.assert_close(_logits(engine), whole, atol=1e-4, rtol=1e-4)


def _cost(lengths: list[int], passes: list[tuple[int, int]], worth: int) -> int:
    columns = max(lengths)
    return sum(worth + (end - start) * sum(columns - n < end for n in lengths) for start, end in passes)


def test_prompts_of_unlike_length_are_read_in_the_cheapest_passes() -> None:
    """No way to cut the columns costs less, passes join without a gap, and none holds too many tokens."""
    for seed in range(20):
        lengths = torch.randint(1, 9, (4,), generator=torch.Generator().manual_seed(seed)).tolist()
        columns, worth = max(lengths), seed % 5
        cuts = [
            [0, *(place for place in range(1, columns) if chosen >> place & 1), columns]
            for chosen in range(0, 2**columns, 2)
        ]
        every = [list(pairwise(ends)) for ends in cuts]
        found = read_in_passes(lengths, 1000, worth)
        assert [*found[0][:1], *(end for _, end in found)] == sorted({place for part in found for place in part})
        assert _cost(lengths, found, worth) == min(_cost(lengths, passes, worth) for passes in every)
    assert read_in_passes([4, 4, 4], 6, 0) == [(0, 2), (2, 4)]


@pytest.mark.parametrize("model", [tiny_gpt2(seed=3), tiny_rotary()], ids=["gpt2", "llama"])
def test_prompts_read_in_passes_give_the_logits_of_one_pass(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading starts with the longest prompts alone, and nothing of them is seen by those that begin later."""
    engine = OpenVINOEngine(model, "float32")
    ids, mask = pad_left([[3, 1, 4, 1, 5, 9, 2, 6], [5, 3], [5, 8, 9, 7, 9]], 0)
    passes = "training.sampling.openvino_decoder._WORTH_A_PASS"
    found = []
    for worth in (1000, 0):
        monkeypatch.setattr(passes, worth)
        decoder = engine.start(ids, mask, copies=2)
        decoder.advance(torch.tensor([2, 7, 1, 8, 2, 8]))
        found.append(decoder.logits.clone())
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_weights_held_in_bfloat16_are_read(precision: Any) -> None:
    """A model published in bfloat16 gives the logits that its own forward gives, and follows its trained layers."""
    model = tiny_rotary(hidden_size=256, head_dim=64, n_layer=2).to(torch.bfloat16).float()
    hold_narrow(model.requires_grad_(requires_grad=False))
    thawed(model.model.layers[1]).requires_grad_(requires_grad=True)
    assert model.model.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16
    engine = OpenVINOEngine(model, precision)
    for _ in range(2):
        expected, found = _logits(TorchEngine(model)).log_softmax(-1), _logits(engine).log_softmax(-1)
        most = 1e-6 if precision == "float32" else 0.02
        assert float((expected.exp() * (expected - found)).sum(-1).max()) < most
        nudge(model.model.layers[1].parameters(), scale=0.02)
        engine.refresh()


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_narrower_formats_see_nearly_the_same_distribution(precision: Any) -> None:
    """Log-probs differ from float32's by hundredths of a nat, also after an update."""
    model = _frozen_below(tiny_gpt2(seed=3, n_layer=2, n_embd=256), 1)
    exact, rounded = OpenVINOEngine(model, "float32"), OpenVINOEngine(model, precision)
    for _ in range(2):
        expected, found = _logits(exact).log_softmax(-1), _logits(rounded).log_softmax(-1)
        assert float((expected.exp() * (expected - found)).sum(-1).max()) < 0.02
        nudge((p for p in model.parameters() if p.requires_grad), scale=0.02)
        exact.refresh()
        rounded.refresh()


@pytest.mark.usefixtures("tiny_models_too")
def test_several_threads_share_a_sampler() -> None:
    """Each thread gets the answers it would get alone."""
    sampler = Sampler(tiny_gpt2(seed=3), end_ids=(EOS,), pad_id=PAD, precision="float32")
    alone = [sampler.sample([prompt], WHOLE, seeds=[row]).answers() for row, prompt in enumerate(PROMPTS)]
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(sampler.sample, [prompt], WHOLE, seeds=[row]) for row, prompt in enumerate(PROMPTS * 3)]
        found = [future.result().answers() for future in asked]
    again = [sampler.sample([prompt], WHOLE, seeds=[row]).answers() for row, prompt in enumerate(PROMPTS * 3)]
    assert found == again
    assert found[: len(PROMPTS)] == alone


@pytest.mark.usefixtures("tiny_models_too")
def test_the_same_batch_gives_the_same_answers_and_in_float32_so_do_others() -> None:
    """The same prompts and seeds give the same tokens; in float32 also alone and alongside duplicates."""
    sampler = Sampler(tiny_rotary(), end_ids=(EOS,), pad_id=PAD, precision="float32")
    pairs = sampler.sample(PROMPTS, WHOLE, seeds=range(8), answers_per_prompt=2).answers()
    assert sampler.sample(PROMPTS, WHOLE, seeds=range(8), answers_per_prompt=2).answers() == pairs
    alone = [sampler.sample([prompt], WHOLE, seeds=[2 * row]).answers()[0] for row, prompt in enumerate(PROMPTS)]
    assert pairs[::2] == alone


@pytest.mark.usefixtures("tiny_models_too")
def test_openvino_decodes_where_it_can() -> None:
    """On a CPU with OpenVINO, a sampler uses it, and greedily finds what PyTorch finds."""
    model = tiny_rotary()
    engine = decoders.engine_for(model, "float32")
    assert isinstance(engine, OpenVINOEngine)
    assert engine.bytes_per_token == 4 * 4 * 2 * 2 * 8  # float32, layers, keys and values, heads for keys, head size
    assert TorchEngine(model).bytes_per_token == engine.bytes_per_token
    ids, mask = pad_left(PROMPTS, PAD)
    assert isinstance(engine.start(ids, mask, copies=1), OpenVINODecoder)


def test_tiny_models_are_not_worth_preparing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model with thousands of weights is decoded by PyTorch, and with millions too while it is being trained."""
    model = tiny_gpt2().requires_grad_(requires_grad=False)
    assert isinstance(decoders.engine_for(model, "auto"), TorchEngine)
    monkeypatch.setattr("training.sampling.decoders._FEWEST_WEIGHTS", model.num_parameters())
    assert isinstance(decoders.engine_for(model, "auto"), OpenVINOEngine)
    model.transformer.ln_f.requires_grad_(requires_grad=True)
    assert isinstance(decoders.engine_for(model, "auto"), TorchEngine)


@pytest.mark.usefixtures("tiny_models_too")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "rotary embedding"),
        ({"architecture": "mixtral", "num_local_experts": 2}, "experts"),
    ],
)
def test_what_cant_be_traced_is_decoded_by_pytorch(
    changes: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning gives the reason."""
    decoders._warn_once.cache_clear()
    model = tiny_rotary(**changes)
    with caplog.at_level(logging.WARNING):
        assert isinstance(decoders.engine_for(model, "auto"), TorchEngine)
        assert isinstance(decoders.engine_for(model, "auto"), TorchEngine)
    assert [reason in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.usefixtures("tiny_models_too")
def test_a_wrong_trace_is_noticed(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Logits that differ from the model's own are never used."""
    decoders._warn_once.cache_clear()
    monkeypatch.setattr("training.sampling.openvino_trace._HIDDEN", 0.0)  # every token sees every other
    with caplog.at_level(logging.WARNING):
        assert isinstance(decoders.engine_for(tiny_gpt2(), "float32"), TorchEngine)
    assert "differ" in caplog.text


@pytest.mark.usefixtures("tiny_models_too")
def test_without_openvino_pytorch_decodes(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Where it isn't installed, a warning says so and answers still come."""
    decoders._warn_once.cache_clear()

    def missing() -> Any:
        raise ImportError("No module named 'openvino'")

    monkeypatch.setattr("training.sampling.openvino_graph.openvino", missing)
    with caplog.at_level(logging.WARNING):
        found = Sampler(tiny_gpt2(), end_ids=(EOS,), pad_id=PAD).sample(PROMPTS, GREEDY, seeds=[0] * 4)
    assert len(found) == 4
    assert "No module named 'openvino'" in caplog.text


def test_nothing_is_sent_anywhere(tmp_path: Path) -> None:
    """Importing OpenVINO neither loads what reports its use nor leaves an id in the home folder."""
    program = (
        "import runpy, sys; runpy.run_path('training/sampling/openvino_runtime.py')['openvino']();"
        "assert sys.modules['openvino_telemetry'] is None"
    )
    root = Path(__file__).parents[4]
    subprocess.run([sys.executable, "-c", program], check=True, env={"HOME": str(tmp_path)}, cwd=root)
    assert list(tmp_path.iterdir()) == []
