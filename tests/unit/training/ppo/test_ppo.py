"""The whole loop on a tiny model: it learns with all three algorithms, resumes exactly, and stops in time."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import nudge, write_letter_gpt2
from torch import Tensor

from training.config import PPOConfig, SamplingConfig
from training.data.split import split_of
from training.data.types import Preference, PromptRecord, Split
from training.errors import CheckpointError, ConfigError, DataError, ModelError
from training.evaluation.policy import evaluate_policy
from training.models.load import load_causal_lm
from training.models.reward import RewardModel
from training.models.text import TextCodec
from training.ppo.dpo import DPOStep
from training.ppo.report import PPOPoint, PPOReport
from training.ppo.train import train_ppo
from training.ppo.trainer import PPOTrainer, Start
from training.runs.checkpoints import Checkpoints
from training.sampling.sampler import Sampler

PROMPTS = [PromptRecord(f"What is {number}?") for number in range(40)]
CONFIG = PPOConfig(
    iterations=4,
    prompts_per_iteration=8,
    minibatch_size=4,
    epochs=2,
    learning_rate=3e-3,
    sampling=SamplingConfig(top_k=0, top_p=1.0, max_new_tokens=8),
    checkpoint_every_iterations=2,
    evaluation_answers=2,
    best_of=4,
    origin_answers=2,
    max_similarity_gain=1.0,
    max_kl_nats=60.0,
)


class EvenTokens(RewardModel):
    """Scores the share of even token ids in a sequence: a rule that needs no training."""

    def score_over(self, activations: Any, ids: Tensor, mask: Tensor, context: Any, starts: Any) -> Tensor:  # noqa: ARG002
        """Apply the rule."""
        return ((ids % 2 == 0) & mask).sum(dim=1) / mask.sum(dim=1)


@pytest.fixture(scope="module")
def lively_model_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with larger embeddings, as a policy that samples uniformly learns nothing."""
    folder = tmp_path_factory.mktemp("lively")
    model = load_causal_lm(str(tiny_model_dir), "cpu")
    with torch.no_grad():
        model.transformer.wte.weight *= 10
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def codec(tiny_model_dir: Path) -> TextCodec:
    """The tiny model's tokenizer."""
    return TextCodec.load(str(tiny_model_dir))


def _run(folder: Path, codec: TextCodec, config: PPOConfig, out: Path, **options: Any) -> PPOReport:
    base = load_causal_lm(str(folder), "cpu")
    prompts = options.pop("prompts", PROMPTS)
    start = Start(**{name: options.pop(name, None) for name in ("policy", "reference", "champion")})
    return train_ppo(base, start, codec, EvenTokens(base, 1), prompts, config, out, **options)


def _even_preferences(folder: Path, codec: TextCodec, prompts: list[PromptRecord]) -> list[Preference]:
    """Pairs of the model's own answers, of which the one with the larger share of even tokens is preferred."""
    base = load_causal_lm(str(folder), "cpu")
    ids = codec.encode_prompts([record.prompt for record in prompts])
    sampler = Sampler(base, end_ids=codec.end_ids, pad_id=codec.pad_id)
    samples = sampler.sample(ids, CONFIG.sampling, seeds=range(2 * len(ids)), answers_per_prompt=2)
    texts = [codec.decode_answer(row) for row in samples.answers()]
    scores = EvenTokens(base, 1).score_texts(codec, [record.prompt for record in prompts for _ in range(2)], texts)
    pairs = []
    for row, record in enumerate(prompts):
        first, second = texts[2 * row : 2 * row + 2]
        better = scores[2 * row] > scores[2 * row + 1]
        pairs.append(Preference(record.prompt, *((first, second) if better else (second, first))))
    return pairs


@pytest.mark.parametrize(("algorithm", "answers"), [("ppo", 1), ("rloo", 2), ("reinforce", 1), ("best-of-n", 4)])
def test_it_learns(lively_model_dir: Path, codec: TextCodec, tmp_path: Path, algorithm: str, answers: int) -> None:
    """Rewarded for even tokens, the policy learns to beat the base on held-out prompts."""
    changes = {
        "algorithm": algorithm,
        "answers_per_prompt": answers,
        "iterations": 25,
        "prompts_per_iteration": 32 // answers,
        "minibatch_size": 16,
        "epochs": 4,
        "learning_rate": 5e-3,
        "kl_coefficient": 0.0,
    }
    if algorithm == "best-of-n":  # it learns from one answer in four only
        changes |= {"prompts_per_iteration": 16, "minibatch_size": 8}
    prompts = [PromptRecord(f"What is {number}?") for number in range(200)]
    report = _run(lively_model_dir, codec, CONFIG.model_copy(update=changes), tmp_path, prompts=prompts)
    assert report.stopped is None
    assert report.algorithm == algorithm
    assert report.win_rate_interval[0] > 0.5
    first, last = report.curve[:5], report.curve[-5:]
    assert sum(point.score for point in last) / 5 > sum(point.score for point in first) / 5 + 0.05
    assert report.kl_nats is not None
    assert report.kl_nats > 0.5


def test_dpo_learns(tmp_path: Path) -> None:
    """From pairs alone, the policy learns to beat the base on held-out prompts, and orders pairs it didn't learn from.

    Its tokens survive being read by people. Where they don't, as with random bytes, the pairs that are learned from
    aren't what the policy samples, and nothing can be learned about that.
    """
    folder = tmp_path / "letters"
    write_letter_gpt2(folder)
    codec = TextCodec.load(str(folder))
    prompts = [PromptRecord(f"What is {number}?") for number in range(400)]
    changes = {
        "algorithm": "dpo",
        "iterations": 20,
        "prompts_per_iteration": 32,
        "minibatch_size": 16,
        "learning_rate": 2e-3,
        "evaluation_prompts": 100,
    }
    preferences = _even_preferences(folder, codec, prompts)
    config = CONFIG.model_copy(update=changes)
    report = _run(folder, codec, config, tmp_path / "out", prompts=prompts, preferences=preferences)
    assert report.stopped is None
    assert report.win_rate_interval[0] > 0.5
    first, last = report.curve[0], report.curve[-1]
    assert (first.chosen_nats, first.held_out_pair_accuracy) == (pytest.approx(0.0, abs=0.1), 0.0)  # all are equal
    assert (last.chosen_nats or 0.0) > (last.rejected_nats or 0.0) + 2.0
    held_out = [point.held_out_pair_accuracy or 0.0 for point in report.curve[-5:]]
    assert sum(held_out) / 5 > 0.6


def test_dpo_reads_log_probs_as_transformers_does(tmp_path: Path) -> None:
    """The reference's log-probs of both answers are sums over the answer and its end, at the sampling temperature."""
    folder = tmp_path / "letters"
    write_letter_gpt2(folder)
    codec, base = TextCodec.load(str(folder)), load_causal_lm(str(folder), "cpu")
    pair = Preference("What is tea?", "hot leaves", "no", 1.0)
    step = PPOTrainer(
        base,
        Start(),
        codec,
        EvenTokens(base, 1),
        [PromptRecord(pair.prompt)],
        CONFIG.model_copy(update={"algorithm": "dpo", "sampling": SamplingConfig(temperature=0.7, max_new_tokens=8)}),
        [pair],
    )._step
    assert isinstance(step, DPOStep)
    (prompt,) = codec.encode_prompts([pair.prompt])
    for place, answer in enumerate(codec.encode_answers([pair.chosen, pair.rejected])):
        assert answer[-1] == codec.eos_id
        logits = base(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1] / 0.7
        expected = logits.log_softmax(dim=-1)[torch.arange(len(answer)), torch.tensor(answer)].sum()
        assert float(step._learned.references[0, place]) == pytest.approx(float(expected), abs=1e-4)


def test_the_first_iteration_starts_at_the_base(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """KL is 0 at step 0, the first minibatch's ratio is 1, and rewards are scaled by the base's answers."""
    report = _run(tiny_model_dir, codec, CONFIG, tmp_path)
    first = report.curve[0]
    assert first.kl_nats == 0.0
    assert first.kl_k3_nats == 0.0
    assert all(point.first_ratio_gap < 1e-4 for point in report.curve)
    assert report.curve[-1].kl_k3_nats > 0.0
    assert abs(first.reward + first.eos_penalty) < 1.5


def _interrupt_at(iteration: int) -> Any:
    def interrupt(point: PPOPoint, _total: int) -> None:
        if point.iteration == iteration:
            raise KeyboardInterrupt

    return interrupt


@pytest.mark.parametrize("killed_after", [1, 2, 3, 4])
def test_a_resumed_run_equals_an_uninterrupted_one(
    tiny_model_dir: Path, codec: TextCodec, tmp_path: Path, killed_after: int
) -> None:
    """A run interrupted after any iteration and resumed ends with bitwise identical weights and report."""
    whole = _run(tiny_model_dir, codec, CONFIG, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        _run(tiny_model_dir, codec, CONFIG, tmp_path / "killed", on_point=_interrupt_at(killed_after))
    assert _run(tiny_model_dir, codec, CONFIG, tmp_path / "killed") == whole
    left, right = (load_file(tmp_path / name / "policy" / "model.safetensors") for name in ("whole", "killed"))
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_what_it_leaves_behind(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """A run saves a policy that loads and can be trained further, its tokenizer, a report, plots, two checkpoints."""
    report = _run(tiny_model_dir, codec, CONFIG, tmp_path)
    assert TextCodec.load(str(tmp_path / "policy")).eos_id == codec.eos_id
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["kl_nats"] == report.kl_nats
    assert len(written["curve"]) == 4
    assert {"win_rate_vs_base", "win_rate_interval", "answer_tokens", "base_answer_tokens"} <= written.keys()
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert Checkpoints(tmp_path / "checkpoints", "").steps() == [2, 4]
    second = _run(
        tiny_model_dir, codec, CONFIG, tmp_path / "second", policy=load_causal_lm(str(tmp_path / "policy"), "cpu")
    )
    assert second.curve[0].kl_k3_nats > 0.0  # measured against the base, not against the version it started from


def test_what_it_is_given_stays_as_it_was(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """Weights, gradient flags and modules of base, starting policy and reward model are the same after training."""
    base, policy = (load_causal_lm(str(tiny_model_dir), "cpu").requires_grad_() for _ in range(2))
    reward_model = EvenTokens(base, 1)
    models = base, policy, reward_model

    def state() -> list[Any]:
        values = [
            (name, value.requires_grad, value.clone()) for model in models for name, value in model.named_parameters()
        ]
        return [*values, [type(module) for model in models for module in model.modules()]]

    before = state()
    config = CONFIG.model_copy(update={"iterations": 1, "precision": "bfloat16", "uncertainty_penalty": 0.0})
    train_ppo(base, Start(policy), codec, reward_model, PROMPTS, config, tmp_path)
    after = state()
    assert after[-1] == before[-1]
    for (name, flag, value), (_, flag_after, value_after) in zip(before[:-1], after[:-1], strict=True):
        assert flag == flag_after, name
        assert torch.equal(value, value_after), name


def test_only_training_prompts_are_answered(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """Held-out prompts are for evaluation only, so a run without training prompts is rejected."""
    held_out = [record for record in PROMPTS if split_of(record.prompt) is not Split.TRAIN]
    report = _run(tiny_model_dir, codec, CONFIG, tmp_path / "some")
    assert report.evaluated_prompts == len(held_out)
    with pytest.raises(DataError, match="no prompt to train on"):
        _run(tiny_model_dir, codec, CONFIG, tmp_path / "none", prompts=held_out)


def test_without_held_out_prompts_it_says_so(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """Without held-out prompts, nothing is measured on training prompts instead."""
    only_train = [record for record in PROMPTS if split_of(record.prompt) is Split.TRAIN]
    report = _run(tiny_model_dir, codec, CONFIG, tmp_path, prompts=only_train)
    assert (report.kl_nats, report.win_rate_vs_base, report.answer_tokens) == (None, None, None)
    assert report.win_rate_interval == (0.0, 1.0)


def test_it_stops_when_the_policy_runs_away(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """Training stops above `max_kl_nats`; the report says why, and an earlier, measured policy is kept."""
    changes = {"max_kl_nats": 0.05, "learning_rate": 1e-2, "iterations": 30, "checkpoint_every_iterations": 1}
    report = _run(tiny_model_dir, codec, CONFIG.model_copy(update=changes), tmp_path)
    assert report.stopped is not None
    assert "max_kl_nats = 0.05" in report.stopped
    assert report.iterations < len(report.curve) + 1 < 30
    assert all(point.kl_nats <= 0.05 for point in report.curve)
    again = _run(tiny_model_dir, codec, CONFIG.model_copy(update=changes), tmp_path)
    assert again == report


def test_it_stops_at_nan(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """A NaN score stops training and keeps the last good policy."""

    class BreaksLater(EvenTokens):
        calls = itertools.count()

        def score_over(self, activations: Any, ids: Tensor, mask: Tensor, context: Any, starts: Any) -> Tensor:
            """Apply the rule at first, then return NaN."""
            scores = super().score_over(activations, ids, mask, context, starts)
            return scores * (torch.nan if 6 < next(self.calls) < 9 else 1.0)

    base = load_causal_lm(str(tiny_model_dir), "cpu")
    report = train_ppo(base, Start(), codec, BreaksLater(base, 1), PROMPTS, CONFIG, tmp_path)
    assert report.stopped is not None
    assert "NaN or infinite" in report.stopped
    weights = load_file(tmp_path / "policy" / "model.safetensors")
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_it_stops_when_answers_repeat_themselves(lively_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """A policy rewarded for repeating tokens is stopped above `max_repetition`, and an earlier one is kept."""

    class SameAgain(EvenTokens):
        def score_over(self, activations: Any, ids: Tensor, mask: Tensor, context: Any, starts: Any) -> Tensor:  # noqa: ARG002
            """Count the tokens that equal the one before."""
            return ((ids[:, 1:] == ids[:, :-1]) & mask[:, 1:]).sum(dim=1).float()

    base = load_causal_lm(str(lively_model_dir), "cpu")
    changes = {
        "iterations": 40,
        "prompts_per_iteration": 16,
        "minibatch_size": 16,
        "learning_rate": 5e-3,
        "epochs": 4,
        "kl_coefficient": 0.0,
        "missing_eos_penalty": 0.0,
        "max_repetition": 0.25,
        "checkpoint_every_iterations": 1,
    }
    report = train_ppo(base, Start(), codec, SameAgain(base, 1), PROMPTS, CONFIG.model_copy(update=changes), tmp_path)
    assert report.stopped is not None
    assert "answers repeat themselves" in report.stopped
    assert "max_repetition = 0.25" in report.stopped
    assert f"after iteration {report.iterations} is kept" in report.stopped
    assert 0 < report.iterations < len(report.curve) + 1 < 40
    assert all(point.repetition <= 0.25 for point in report.curve)
    assert (tmp_path / "policy" / "model.safetensors").exists()


def test_the_last_policy_is_measured_too(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """If only the evaluation finds the policy out of bounds, the one before the last iteration is kept."""
    config = CONFIG.model_copy(
        update={
            "iterations": 2,
            "prompts_per_iteration": 16,
            "minibatch_size": 16,
            "epochs": 4,
            "learning_rate": 0.1,
            "warmup_share": 0.0,
            "evaluation_answers": 8,
        }
    )
    free = _run(tiny_model_dir, codec, config, tmp_path / "free")
    assert free.kl_nats is not None
    between = (max(abs(point.kl_nats) for point in free.curve) + free.kl_nats) / 2
    report = _run(tiny_model_dir, codec, config.model_copy(update={"max_kl_nats": between}), tmp_path / "bound")
    assert report.stopped is not None
    assert "After iteration 2: the policy moved too far" in report.stopped
    assert report.iterations == 1
    assert report.kl_nats is not None
    assert report.kl_nats < free.kl_nats


def test_the_supervised_policy_is_the_reference_where_there_is_one(
    tiny_model_dir: Path, codec: TextCodec, tmp_path: Path
) -> None:
    """The KL starts at 0 from there, though it isn't from the base; and a champion that is the policy is its equal."""
    supervised = load_causal_lm(str(tiny_model_dir), "cpu")
    nudge(supervised.transformer.h[2].parameters(), scale=0.3)
    one = CONFIG.model_copy(update={"iterations": 1, "learning_rate": 1e-6, "evaluation_answers": 8})
    report = _run(tiny_model_dir, codec, one, tmp_path, policy=supervised, reference=supervised, champion=supervised)
    assert report.curve[0].kl_nats == 0.0
    assert report.kl_nats == pytest.approx(0.0, abs=0.01)
    assert report.kl_from_base_nats is not None
    assert report.kl_from_base_nats > 0.01
    low, high = report.champion_interval
    assert low < 0.5 < high


def test_each_prompt_has_an_origin_of_its_own(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """A reward that only depends on the prompt is no reward: scores differ, rewards are the missing-EOS penalty's."""

    class ByPrompt(EvenTokens):
        def score_over(self, activations: Any, ids: Tensor, mask: Tensor, context: Any, starts: Any) -> Tensor:  # noqa: ARG002
            """Read the prompt's number alone."""
            return ids[:, 5].float() + 0.01 * (ids[:, -1] % 2)

    base = load_causal_lm(str(tiny_model_dir), "cpu")
    config = CONFIG.model_copy(update={"iterations": 1, "missing_eos_penalty": 0.0})
    report = train_ppo(base, Start(), codec, ByPrompt(base, 1), PROMPTS, config, tmp_path)
    assert abs(report.curve[0].reward) < 3.0
    assert report.curve[0].score > 10.0


def test_blank_answers_are_penalised(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """With every answer cut to one blank token, the reward falls by the penalty."""

    class Blank(TextCodec):
        def decode_answer(self, ids: Any) -> str:  # noqa: ARG002
            """Nothing."""
            return ""

    blank = Blank(codec.tokenizer, codec.config)
    one = CONFIG.model_copy(update={"iterations": 1, "blank_penalty": 3.0})
    plain = _run(tiny_model_dir, codec, one, tmp_path / "plain")
    found = _run(tiny_model_dir, blank, one, tmp_path / "blank")
    assert found.curve[0].reward == pytest.approx(plain.curve[0].reward - 3.0, abs=0.2)
    assert found.blank_share == 1.0


def test_the_report_says_whether_the_policy_earns_its_kl(
    tiny_model_dir: Path, codec: TextCodec, tmp_path: Path
) -> None:
    """Best of 1, 2 and 4 of the base stand beside the policy, with a plot; more is better by the same scores."""
    report = _run(tiny_model_dir, codec, CONFIG, tmp_path)
    assert [point.n for point in report.best_of_n] == [1, 2, 4]
    gains = [point.gain for point in report.best_of_n]
    assert gains[0] == pytest.approx(0.0, abs=1e-5)
    assert gains == sorted(gains)
    assert "earn its KL" in report.verdict or "earns its KL" in report.verdict
    assert (tmp_path / "frontier.png").read_bytes().startswith(b"\x89PNG")


def test_every_diagnostic_is_measured(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """Each metric is within its bounds, and the reward is the sum of its parts."""
    report = _run(tiny_model_dir, codec, CONFIG, tmp_path)
    for point in report.curve:
        assert 0 < point.ratio_min <= 1 <= point.ratio_max
        assert 0 <= point.clip_share <= 1
        assert 0 < point.entropy_nats < 6
        assert 0 < point.distinct_1 < point.distinct_2 <= 1
        assert 0 <= point.repetition < 0.3
        assert 0 <= point.ended_share <= 1
        assert 1 <= point.answer_tokens <= 8
        assert point.kl_penalty == pytest.approx(point.kl_coefficient * point.kl_nats)
        assert point.explained_variance is not None
    assert report.curve[-1].ratio_max > 1 > report.curve[-1].ratio_min


def test_the_evaluation_is_bounded_and_tells_how_far_it_is(
    tiny_model_dir: Path, codec: TextCodec, tmp_path: Path
) -> None:
    """Of 60 held-out prompts, only as many as configured are answered, in two batches that are both reported."""
    prompts = [PromptRecord(f"What is {number}?", "Leaves in hot water.") for number in range(300)]
    calls: list[tuple[int, int]] = []
    config = CONFIG.model_copy(update={"iterations": 1, "evaluation_prompts": 40})
    report = _run(
        tiny_model_dir, codec, config, tmp_path, prompts=prompts, on_answers=lambda done, of: calls.append((done, of))
    )
    assert report.evaluated_prompts == 40
    assert calls == [(0, 40), (32, 40), (40, 40)]
    assert report.win_rate_vs_reference is not None
    assert report.rouge is not None
    assert report.rouge.keys() == {"rouge1", "rouge2", "rougeL"}
    assert PPOReport.from_json(json.loads((tmp_path / "report.json").read_text())) == report


def test_the_reference_answer_is_what_the_reward_is_measured_against(
    tiny_model_dir: Path, codec: TextCodec, tmp_path: Path
) -> None:
    """References that score higher lower the rewards by the difference; raw scores don't change."""
    base = load_causal_lm(str(tiny_model_dir), "cpu")
    reward_model = EvenTokens(base, 1)
    one = CONFIG.model_copy(update={"iterations": 1})

    def first(name: str, reference: str | None) -> PPOPoint:
        prompts = [PromptRecord(record.prompt, reference) for record in PROMPTS]
        return train_ppo(base, Start(), codec, reward_model, prompts, one, tmp_path / name).curve[0]

    low, high = first("low", "Leaves in hot water."), first("high", "Put it into boiling water for eight minutes.")
    texts = ["Leaves in hot water.", "Put it into boiling water for eight minutes."]
    scores = [
        reward_model.score_texts(codec, [record.prompt for record in PROMPTS], [text] * 40).mean() for text in texts
    ]
    assert low.score == high.score
    assert (low.reward > high.reward) == bool(scores[0] < scores[1])
    assert first("none", None).reward != low.reward


def test_answers_that_never_end_are_penalised(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """The reward falls by the penalty times the share of truncated answers."""
    one = CONFIG.model_copy(update={"iterations": 1})
    plain = _run(tiny_model_dir, codec, one.model_copy(update={"missing_eos_penalty": 0.0}), tmp_path / "plain")
    hard = _run(tiny_model_dir, codec, one.model_copy(update={"missing_eos_penalty": 5.0}), tmp_path / "hard")
    cut_off = 1 - plain.curve[0].ended_share
    assert cut_off > 0.5
    assert hard.curve[0].reward == pytest.approx(plain.curve[0].reward - 5.0 * cut_off, abs=1e-4)
    assert hard.curve[0].eos_penalty == pytest.approx(5.0 * cut_off, abs=1e-5)


def test_the_kl_coefficient_adapts(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """An adaptive coefficient rises by up to a factor of e over the horizon, and never falls below where it started; a
    fixed one stays there.
    """
    changes = {"kl_horizon_sequences": 80, "target_kl_nats": 0.1, "learning_rate": 1e-2}
    adaptive = _run(tiny_model_dir, codec, CONFIG.model_copy(update=changes), tmp_path / "adaptive")
    fixed = _run(tiny_model_dir, codec, CONFIG.model_copy(update={**changes, "adaptive_kl": False}), tmp_path / "fixed")
    for before, after in itertools.pairwise(adaptive.curve):
        error = min(1.0, max(-1.0, before.kl_nats / 0.1 - 1.0))
        expected = max(0.05, before.kl_coefficient * math.exp(error * 8 / 80))
        assert after.kl_coefficient == pytest.approx(expected)
    assert adaptive.curve[1].kl_coefficient == 0.05  # the first iteration's KL is 0
    assert max(point.kl_coefficient for point in adaptive.curve) > 0.05
    assert {point.kl_coefficient for point in fixed.curve} == {0.05}


def test_an_evaluation_of_the_base_against_itself_is_even(tiny_model_dir: Path, codec: TextCodec) -> None:
    """The base against itself has KL 0 and about as many wins as losses."""
    from training.models.policy import PolicyWithValue

    base = load_causal_lm(str(tiny_model_dir), "cpu")
    prompts = [PromptRecord(f"What is {number}?") for number in range(200)]
    policy = PolicyWithValue(base)
    found = evaluate_policy(policy, codec, EvenTokens(base, 1), prompts, CONFIG, seed=0)
    assert found.kl_nats == 0.0
    assert found.win_rate_vs_base is not None
    assert 0.35 < found.win_rate_vs_base < 0.65
    assert found.win_rate_interval[0] < found.win_rate_vs_base < found.win_rate_interval[1]
    assert [example.prompt for example in found.examples] == [f"What is {number}?" for number in range(50)]
    first = found.examples[0]
    assert first.champion == first.base  # without a champion, it is the base
    assert first.champion_score == first.base_score


def test_unusable_settings_are_refused(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """Each mistake has an error that names the setting and the expected value."""
    with pytest.raises(ConfigError, match="answers_per_prompt = 1"):
        _run(tiny_model_dir, codec, CONFIG.model_copy(update={"algorithm": "rloo", "answers_per_prompt": 1}), tmp_path)
    cut = CONFIG.model_copy(update={"sampling": SamplingConfig(top_k=50, top_p=1.0)})
    with pytest.raises(ConfigError, match="top_k = 50"):
        _run(tiny_model_dir, codec, cut, tmp_path)
    long = CONFIG.model_copy(update={"sampling": SamplingConfig(top_k=0, top_p=1.0, max_new_tokens=128)})
    with pytest.raises(DataError, match="longer than the model can read"):
        _run(tiny_model_dir, codec, long, tmp_path)
    base, other = load_causal_lm(str(tiny_model_dir), "cpu"), load_causal_lm(str(tiny_model_dir), "cpu")
    with pytest.raises(ModelError, match="different base"):
        train_ppo(base, Start(), codec, EvenTokens(other, 1), PROMPTS, CONFIG, tmp_path)


def test_another_runs_folder_is_refused(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """A folder with checkpoints from other settings or another starting policy is refused."""
    _run(tiny_model_dir, codec, CONFIG, tmp_path)
    with pytest.raises(CheckpointError, match="another run"):
        _run(tiny_model_dir, codec, CONFIG.model_copy(update={"seed": 1}), tmp_path)
    policy = load_causal_lm(str(tiny_model_dir), "cpu")
    nudge(policy.transformer.h[2].parameters())
    with pytest.raises(CheckpointError, match="another run"):
        _run(tiny_model_dir, codec, CONFIG, tmp_path, policy=policy)
