"""The usual libraries, each used as intended: `python -m benchmarks.peers WHAT MODEL_FOLDER`.

Runs in the peers' environments, so it imports only the benchmark modules that need nothing but the standard library.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import workload
from benchmarks.turns import Turns, threads

_QUARTER = 4  # work that takes minutes and scales linearly is measured on a quarter
_MANY_STEPS = 1000  # the controller ends training when it has measured enough


def pipeline(turns: Turns, folder: str) -> None:
    """The tutorial's way: transformers' pipeline, prompt by prompt; a quarter of the prompts per turn."""
    from transformers import pipeline

    generator = pipeline("text-generation", model=folder, tokenizer=folder, device="cpu")
    _never_end(generator.model)
    # Every fourth prompt, so that the mix of lengths is that of all prompts.
    prompts = [workload.text_of(tokens) for tokens in workload.proposal_prompts()[1::_QUARTER]]

    def work() -> None:
        for prompt in prompts:
            generator(
                prompt,
                do_sample=True,
                top_k=workload.TOP_K,
                top_p=workload.TOP_P,
                max_new_tokens=workload.NEW_TOKENS,
                num_return_sequences=workload.ANSWERS,
                pad_token_id=0,
            )

    turns.serve(work, units=1 / _QUARTER)


def generate(turns: Turns, folder: str, dtype: str, part: str = "propose") -> None:
    """`model.generate` on the whole batch."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    _never_end(model)
    prompts = workload.prompts_of(part)
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(tokens)) + tokens for tokens in prompts])
    mask = torch.tensor([[0] * (width - len(tokens)) + [1] * len(tokens) for tokens in prompts])

    def work() -> None:
        found = model.generate(
            ids,
            attention_mask=mask,
            do_sample=True,
            top_k=workload.TOP_K,
            top_p=workload.TOP_P,
            max_new_tokens=workload.NEW_TOKENS,
            num_return_sequences=workload.ANSWERS,
            pad_token_id=0,
        )
        if found.shape != (len(prompts) * workload.ANSWERS, width + workload.NEW_TOKENS):
            raise RuntimeError(f"generate returned shape {tuple(found.shape)}")

    turns.serve(work)


def ctranslate2(turns: Turns, folder: str) -> None:
    """CTranslate2 with int8 weights."""
    import ctranslate2 as engine

    with tempfile.TemporaryDirectory() as place:
        converted = str(Path(place) / "model")
        engine.converters.TransformersConverter(folder).convert(converted, quantization="int8")
        generator = engine.Generator(converted, compute_type="int8", inter_threads=1, intra_threads=threads())
    prompts = [[f"w{token}" for token in tokens] for tokens in workload.proposal_prompts()]

    def work() -> None:
        found = generator.generate_batch(
            prompts,
            max_length=workload.NEW_TOKENS,
            min_length=workload.NEW_TOKENS,
            sampling_topk=workload.TOP_K,
            sampling_topp=workload.TOP_P,
            num_hypotheses=workload.ANSWERS,
            include_prompt_in_result=False,
        )
        made = sum(len(ids) for result in found for ids in result.sequences_ids)
        if made != workload.PROMPTS * workload.ANSWERS * workload.NEW_TOKENS:
            raise RuntimeError(f"CTranslate2 generated {made} tokens")

    turns.serve(work)


def reward_by_trainer(turns: Turns, folder: str, *, padded: bool) -> None:
    """Hugging Face's Trainer on a scoring model, with the top 3 of 12 layers trained.

    `padded` is the tutorial's way: every sequence is padded to 550 tokens, and a turn covers a quarter of the pairs.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    model.config.pad_token_id = tokenizer.pad_token_id
    for block in model.transformer.h[: round(len(model.transformer.h) * (1 - workload.TRAINED_SHARE) + 0.5)]:
        block.requires_grad_(requires_grad=False)
    model.transformer.wte.requires_grad_(requires_grad=False)
    model.transformer.wpe.requires_grad_(requires_grad=False)

    class PairTrainer(Trainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            scores = model(**inputs).logits.squeeze(-1)
            chosen, rejected = scores.chunk(2)
            loss = -torch.nn.functional.logsigmoid(chosen - rejected).mean()
            return (loss, scores) if return_outputs else loss

    def collate(rows: list[dict[str, str]]) -> dict[str, Any]:
        texts = [f"{row['prompt']} {row[which]}" for which in ("chosen", "rejected") for row in rows]
        how: dict[str, Any] = {"padding": "max_length", "max_length": workload.TUTORIAL_LENGTH} if padded else {}
        return tokenizer(texts, return_tensors="pt", truncation=True, **({"padding": True} | how))

    batch = workload.PAIRS_PER_STEP // (_QUARTER if padded else 1)
    arguments = TrainingArguments(
        tempfile.mkdtemp(),
        per_device_train_batch_size=batch,
        max_steps=_MANY_STEPS,
        report_to=[],
        save_strategy="no",
        remove_unused_columns=False,
        use_cpu=True,
        disable_tqdm=True,
        logging_steps=_MANY_STEPS,
    )
    trainer = PairTrainer(model, arguments, train_dataset=_rows(), data_collator=collate)
    trainer.add_callback(_callback(turns, batch / workload.PAIRS_PER_STEP))
    trainer.train()


def reward_by_trl(turns: Turns, folder: str, *, bf16: bool) -> None:
    """TRL's RewardTrainer, without gradient checkpointing, which would only make it slower."""
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from trl import RewardConfig, RewardTrainer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    model.config.pad_token_id = tokenizer.pad_token_id
    rows = [{name: f" {text}" if name != "prompt" else text for name, text in row.items()} for row in _rows()]
    arguments = RewardConfig(
        tempfile.mkdtemp(),
        per_device_train_batch_size=workload.PAIRS_PER_STEP,
        max_steps=_MANY_STEPS,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        bf16=bf16,
        gradient_checkpointing=False,
        max_length=1024,
        disable_tqdm=True,
        logging_steps=_MANY_STEPS,
    )
    trainer = RewardTrainer(
        model=model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    )
    trainer.add_callback(_callback(turns, 1.0))
    trainer.train()


def ppo_by_trl(turns: Turns, folder: str, *, bf16: bool, llama: bool = False) -> None:
    """TRL's PPOTrainer, without gradient checkpointing."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    padding = {} if llama else {"pad_token": "w0"}
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", **padding)
    policy, reference = (AutoModelForCausalLM.from_pretrained(folder) for _ in range(2))
    value, reward = (AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1) for _ in range(2))
    arguments = PPOConfig(
        tempfile.mkdtemp(),
        per_device_train_batch_size=workload.PROMPTS,
        gradient_accumulation_steps=1,
        num_mini_batches=1,
        num_ppo_epochs=workload.PPO_EPOCHS,
        local_rollout_forward_batch_size=workload.PROMPTS,
        total_episodes=workload.PROMPTS * _MANY_STEPS,
        response_length=workload.NEW_TOKENS,
        temperature=1.0,
        num_sample_generations=0,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        bf16=bf16,
        gradient_checkpointing=False,
        disable_tqdm=True,
    )
    prompts = Dataset.from_list([{"input_ids": tokens} for tokens in workload.ppo_prompts(64, llama=llama)])
    trainer = PPOTrainer(
        args=arguments,
        processing_class=tokenizer,
        model=policy,
        ref_model=reference,
        reward_model=reward,
        value_model=value,
        train_dataset=prompts,
        eval_dataset=prompts.select(range(workload.PROMPTS)),
    )
    trainer.add_callback(_callback(turns, 1.0))
    trainer.train()


def _rows() -> list[dict[str, str]]:
    return [{"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected} for pair in workload.pairs()]


def _callback(turns: Turns, units: float) -> Any:
    """A trainer callback that makes every optimizer step (or PPO iteration) a turn."""
    from transformers import TrainerCallback

    class TakeTurns(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            turns.wait()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            turns.done(units)
            turns.wait()

    return TakeTurns()


def _never_end(model: Any) -> None:
    """Disable the end of text, so that every contestant generates the same number of tokens."""
    model.generation_config.eos_token_id = None


WAYS = {
    "pipeline": pipeline,
    "generate_fp32": partial(generate, dtype="float32"),
    "generate_bf16": partial(generate, dtype="bfloat16"),
    "generate_fp32_llama": partial(generate, dtype="float32", part="propose_llama"),
    "generate_bf16_llama": partial(generate, dtype="bfloat16", part="propose_llama"),
    "ctranslate2_int8": ctranslate2,
    "tutorial": partial(reward_by_trainer, padded=True),
    "hf_dynamic": partial(reward_by_trainer, padded=False),
    "reward_trl": partial(reward_by_trl, bf16=False),
    "reward_trl_bf16": partial(reward_by_trl, bf16=True),
    "ppo_trl": partial(ppo_by_trl, bf16=False),
    "ppo_trl_llama": partial(ppo_by_trl, bf16=False, llama=True),
    "ppo_trl_bf16": partial(ppo_by_trl, bf16=True),
}


def main() -> None:
    """Take part as the named contestant."""
    turns = Turns()
    if sys.argv[1] != "ctranslate2_int8":
        import torch

        torch.set_num_threads(threads())
    WAYS[sys.argv[1]](turns, sys.argv[2])


if __name__ == "__main__":
    main()
