"""A real chat model as `rankloop demo --model` trains it: its prompts, and judgements of its own answers by mood."""

from __future__ import annotations

from benchmarks.learned import _lines
from benchmarks.real_pairs import answers_of
from ml_backend.demo.taste import POSITIVE, load_taste
from training.config import CycleConfig
from training.data import Split, split_of
from training.models import TextCodec, load_causal_lm

JUDGEMENTS = 200


class RealMaterial:
    """A chat model's folder, with prompts and pairs as `Material` has them.

    pairs: judged answers to the first 200 prompts outside the test part; a tie is half a preference.
    """

    pool = 16

    def __init__(self, model: str) -> None:
        self.config = CycleConfig.for_model(model)
        self.base = load_causal_lm(model, "cpu")
        self.codec = TextCodec.load(model, self.config.text)
        self.prefer = load_taste(POSITIVE)
        self.prompts = [prompt for prompt in _lines("chat_prompts.txt") if split_of(prompt) is not Split.TEST]
        self.held_out = _lines("chat_held_out_prompts.txt")
        answers = answers_of(
            self.base, self.codec, self.prompts[:JUDGEMENTS], self.config.sampling, first_seed=1_000_000
        )
        self.pairs = [self._judged(*item) for item in answers]

    def _judged(self, prompt: str, one: str, other: str) -> dict[str, object]:
        choice = self.prefer(prompt, one, other)
        chosen, rejected = (other, one) if choice == "2" else (one, other)
        return {
            "prompt": prompt,
            "chosen": chosen,
            "rejected": rejected,
            "p_chosen": 0.5 if choice == "tie" else 1.0,
        }
