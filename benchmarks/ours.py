"""Our side of each comparison, and the machine's limits: `python -m benchmarks.ours WHAT MODEL_FOLDER`."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks import workload
from benchmarks.turns import Turns, clock, threads
from training.config import PPOConfig, RewardConfig, SamplingConfig, TextConfig
from training.data import Preference, PromptRecord
from training.fast.packed_linear import PackedLinear, packing_works
from training.models import TextCodec, load_causal_lm


def limits(turns: Turns, _: str) -> None:
    """The fastest product of large matrices in this PyTorch, and the speed of reading memory."""
    inputs, weight = torch.randn(1024, 3072), torch.randn(3072, 3072)
    far = torch.randn(2**26)

    def rate(dtype: torch.dtype) -> float:
        layer = PackedLinear(dtype, packed=packing_works(dtype))
        layer.load(weight)
        plain, given = weight.to(dtype), inputs.to(dtype)
        times = []
        for product in (lambda: layer(given), lambda: F.linear(given, plain)):
            for _ in range(6):
                start = clock()
                product()
                times.append(clock() - start)
        return float(2 * 1024 * 3072 * 3072 / min(times) / 1e9)

    def measure() -> dict[str, Any]:
        with torch.no_grad():
            times = []
            for _ in range(4):
                start = clock()
                far.sum()
                times.append(clock() - start)
            fp32, bf16 = rate(torch.float32), rate(torch.bfloat16)
        return {"gflops_fp32": fp32, "gflops_bf16": bf16, "read_gb_s": far.nbytes / min(times) / 1e9}

    turns.serve(measure)


def propose(turns: Turns, folder: str, part: str = "propose") -> None:
    """16 prompts, or one, with 2 answers each, sampled as the server does."""
    from training.sampling import Sampler

    model = load_causal_lm(folder, "cpu").requires_grad_(requires_grad=False)
    # No token ends an answer, so that every contestant generates the same number of tokens.
    sampler = Sampler(model, end_ids=(), pad_id=workload.LLAMA_TOKENS if part.endswith("_llama") else workload.END)
    config = SamplingConfig(top_k=workload.TOP_K, top_p=workload.TOP_P, max_new_tokens=workload.NEW_TOKENS)
    prompts = workload.prompts_of(part)

    def work() -> None:
        count = len(prompts) * workload.ANSWERS
        sampler.sample(prompts, config, seeds=range(count), answers_per_prompt=workload.ANSWERS)

    turns.serve(work)


def reward(turns: Turns, folder: str) -> None:
    """One pass of the frozen trunk over 64 pairs and an epoch of 4 steps; reports seconds per step over 6 epochs."""
    from training.reward import RewardRun, pair_features, train_epoch

    base = load_causal_lm(folder, "cpu")
    codec = TextCodec.load(folder, TextConfig(separator=" "))
    config = RewardConfig(batch_pairs=workload.PAIRS_PER_STEP, epochs=workload.REWARD_EPOCHS)
    pairs = [Preference(pair.prompt, pair.chosen, pair.rejected) for pair in _training_pairs()]
    run = RewardRun.fresh(base, config)
    steps = len(pairs) // workload.PAIRS_PER_STEP

    while True:
        turns.wait()
        start = clock()
        features = pair_features(run.model, codec, pairs, [run.model.depth], keep_trunk=True)
        trunk = clock() - start
        train_epoch(run, features, torch.arange(len(pairs)), config, 0)
        whole = clock() - start
        tokens = sum(len(features.trunk[int(place)]) for place in features.places.flatten()) / steps
        # A step's time includes only its share of the trunk's pass, which the other epochs use too.
        share = (trunk / config.epochs + (whole - trunk)) / whole
        turns.done(units=steps / share, trunk_s=trunk, tokens_per_step=tokens)


def ppo(turns: Turns, folder: str, *, llama: bool = False) -> None:
    """One iteration: 16 answers of 50 tokens to prompts of 30, 4 epochs."""
    from training.models import RewardModel
    from training.ppo import PPOTrainer, Start

    base = load_causal_lm(folder, "cpu")
    codec = TextCodec.load(folder, TextConfig(separator=" ", chat_template="off"))
    config = PPOConfig(
        prompts_per_iteration=workload.PROMPTS,
        minibatch_size=workload.PROMPTS,
        epochs=workload.PPO_EPOCHS,
        sampling=SamplingConfig(top_k=0, top_p=1.0, max_new_tokens=workload.NEW_TOKENS),
        max_kl_nats=1e9,
        max_similarity_gain=1.0,
        min_entropy_share=0.0,
    )
    reward_model = RewardModel.on_base(base, 1 - workload.TRAINED_SHARE)
    torch.nn.init.normal_(reward_model.head.weight, std=0.02)
    tokens = workload.ppo_prompts(64, llama=llama)
    text_of = codec.tokenizer.decode if llama else workload.text_of
    prompts = [PromptRecord(text_of(ids)) for ids in tokens]
    trainer = PPOTrainer(base, Start(), codec, reward_model, prompts, config)
    trainer.measure_baseline()

    def work() -> dict[str, Any]:
        point = trainer.iterate()
        return {"answer_tokens": point.answer_tokens}

    turns.serve(work)


def _training_pairs() -> list[workload.Pair]:
    """The first 64 pairs whose prompt is in the training split."""
    from training.data import Split, split_of

    found = [pair for pair in workload.pairs(2 * workload.PAIRS) if split_of(pair.prompt) is Split.TRAIN]
    return found[: workload.PAIRS]


def main() -> None:
    """Take part as the named contestant."""
    turns = Turns()
    torch.set_num_threads(threads())
    what, folder = sys.argv[1:3]
    if what.startswith(("propose", "pair")):
        propose(turns, folder, what)
    else:
        {"limits": limits, "reward": reward, "ppo": ppo, "ppo_llama": partial(ppo, llama=True)}[what](turns, folder)


if __name__ == "__main__":
    main()
