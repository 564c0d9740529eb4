"""What TRL learns from the same pairs: `python -m benchmarks.learned_peers reward|ppo FOLDER MODEL SEED BUDGET`.

Runs in the peers' environments. Everything is read from and written to FOLDER; `benchmarks.learned` judges.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.turns import clock, threads

BATCH = 16
ANSWER_TOKENS = 64
PPO_LEARNING_RATE = 1e-4  # TRL's default of 3e-6 barely changes so small a model in this time


def reward(folder: Path, model_folder: str, seed: int, _: float) -> None:
    """TRL's RewardTrainer with default settings, in float32; saves its model and held-out score differences."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from trl import RewardConfig, RewardTrainer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(model_folder, num_labels=1)
    out = folder / f"trl-reward-{seed}"
    arguments = RewardConfig(
        str(out),
        seed=seed,
        per_device_train_batch_size=BATCH,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
    )
    pairs = Dataset.from_list(_read(folder, "pairs"))
    trainer = RewardTrainer(model=model, args=arguments, train_dataset=pairs, processing_class=tokenizer)
    start = clock()
    trainer.train()
    seconds = clock() - start
    model.eval().save_pretrained(out)
    tokenizer.save_pretrained(out)

    def scores(which: str) -> Any:
        texts = [f"{row['prompt']}{row[which]}{tokenizer.eos_token}" for row in _read(folder, "held_out")]
        parts = [
            tokenizer(texts[at : at + BATCH], padding=True, return_tensors="pt") for at in range(0, len(texts), BATCH)
        ]
        with torch.no_grad():
            return torch.cat([model(**part).logits.squeeze(-1) for part in parts])

    differences = (scores("chosen") - scores("rejected")).tolist()
    _write(folder / f"trl-reward-{seed}.json", {"seconds": seconds, "differences": differences})


def ppo(folder: Path, model_folder: str, seed: int, budget: float) -> None:
    """TRL's PPOTrainer against TRL's reward model; saves its held-out answers at a few moments."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(model_folder, padding_side="left")
    policy, reference = (AutoModelForCausalLM.from_pretrained(model_folder) for _ in range(2))
    judge = str(folder / f"trl-reward-{seed}")
    value, reward_model = (AutoModelForSequenceClassification.from_pretrained(judge, num_labels=1) for _ in range(2))
    arguments = PPOConfig(
        str(folder / f"trl-ppo-{seed}"),
        seed=seed,
        learning_rate=PPO_LEARNING_RATE,
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=1,
        num_mini_batches=1,
        num_ppo_epochs=4,
        local_rollout_forward_batch_size=BATCH,
        total_episodes=BATCH * 1000,
        response_length=ANSWER_TOKENS,
        temperature=1.0,
        stop_token="eos",  # noqa: S106 - a kind of token
        missing_eos_penalty=1.0,
        num_sample_generations=0,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
    )
    prompts = [{"input_ids": tokenizer(f"{prompt}\n")["input_ids"]} for prompt in _read(folder, "prompts")]
    dataset = Dataset.from_list(prompts)
    trainer = PPOTrainer(
        args=arguments,
        processing_class=tokenizer,
        model=policy,
        ref_model=reference,
        reward_model=reward_model,
        value_model=value,
        train_dataset=dataset,
        eval_dataset=dataset.select(range(BATCH)),
    )
    held_out = [f"{prompt}\n" for prompt in _read(folder, "held_out_prompts")]
    points: list[dict[str, Any]] = []

    def answers() -> list[str]:
        given = tokenizer(held_out, padding=True, return_tensors="pt")
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(1000 + seed)
            found = policy.generate(
                **given, do_sample=True, top_k=0, top_p=1.0, max_new_tokens=ANSWER_TOKENS, use_cache=True
            )
        texts = tokenizer.batch_decode(found[:, given["input_ids"].shape[1] :], skip_special_tokens=True)
        return [text.strip() for text in texts]

    class Watch(TrainerCallback):
        spent, since, next_look = 0.0, 0.0, budget / 4

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.since = clock()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.spent += clock() - self.since
            if self.spent >= self.next_look:
                self.next_look += budget / 4
                points.append({"seconds": self.spent, "answers": answers()})
                _write(folder / f"trl-ppo-{seed}.json", points)
                if self.spent >= budget:
                    sys.exit(0)
            self.since = clock()

    trainer.add_callback(Watch())
    trainer.train()


def _read(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}.json").read_bytes())


def _write(path: Path, what: Any) -> None:
    path.write_text(json.dumps(what), encoding="utf-8")


def main() -> None:
    """Train what the first argument names."""
    import torch

    torch.set_num_threads(threads())
    what, folder, model, seed, budget = sys.argv[1:]
    {"reward": reward, "ppo": ppo}[what](Path(folder), model, int(seed), float(budget))


if __name__ == "__main__":
    main()
