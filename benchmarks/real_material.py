"""A real chat model as `rankloop demo --model` trains it: its prompts, and judgements of its own answers by mood."""

from __future__ import annotations

from benchmarks.learned import DATA
from ml_backend.demo.taste import POSITIVE, load_taste
from training.config import CycleConfig
from training.data import Split, split_of
from training.models import TextCodec, load_causal_lm
from training.sampling import Sampler

JUDGEMENTS = 200


class RealMaterial:
    """A chat model's folder, with prompts and pairs as `Material` has them.

    pairs: the first 200 that have a winner or a tie outside the test part; a tie is half a preference.
    """

    pool = 16

    def __init__(self, model: str) -> None:
        self.config = CycleConfig.for_model(model)
        self.base = load_causal_lm(model, "cpu")
        self.codec = TextCodec.load(model, self.config.text)
        self.prefer = load_taste(POSITIVE)
        self.prompts = [prompt for prompt in _lines("chat_prompts.txt") if split_of(prompt) is not Split.TEST]
        self.held_out = _lines("chat_held_out_prompts.txt")
        self.pairs = [self._judged(*item) for item in self._answers(self.prompts[:JUDGEMENTS])]

    def _answers(self, prompts: list[str]) -> list[tuple[str, str, str]]:
        """Two sampled answers to each prompt."""
        sampler = Sampler(self.base, end_ids=self.codec.end_ids, pad_id=self.codec.pad_id)
        found = []
        for start in range(0, len(prompts), 32):
            part = prompts[start : start + 32]
            seeds = range(1_000_000 + 2 * start, 1_000_000 + 2 * (start + len(part)))
            ids = self.codec.encode_prompts(part)
            samples = sampler.sample(ids, self.config.sampling, seeds=seeds, answers_per_prompt=2)
            texts = [self.codec.decode_answer(tokens) for tokens in samples.answers()]
            found += list(zip(part, texts[::2], texts[1::2], strict=True))
        return found

    def _judged(self, prompt: str, one: str, other: str) -> dict[str, object]:
        choice = self.prefer(prompt, one, other)
        chosen, rejected = (other, one) if choice == "2" else (one, other)
        return {
            "prompt": prompt,
            "chosen": chosen,
            "rejected": rejected,
            "p_chosen": 0.5 if choice == "tie" else 1.0,
        }


def _lines(name: str) -> list[str]:
    return [line for line in (DATA / name).read_text(encoding="utf-8").splitlines() if line.strip()]
