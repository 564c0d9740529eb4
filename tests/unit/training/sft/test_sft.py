"""Supervised training: what is learned, what stays frozen, and that a resumed run equals an uninterrupted one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from training.config import SFTConfig
from training.data.split import split_of
from training.data.types import Demonstration, Split
from training.errors import CheckpointError, DataError, DivergedError
from training.models.load import load_causal_lm
from training.models.text import TextCodec
from training.sft.answer_loss import AnswerLoss
from training.sft.examples import Example, batches_of_epoch, examples_by_split, tensors_of
from training.sft.train import train_sft

FAST = SFTConfig(
    epochs=2, batch_size=4, learning_rate=1e-3, checkpoint_every_steps=3, trainable_layers="all", precision="float32"
)


@pytest.fixture
def codec(tiny_model_dir: Path) -> TextCodec:
    """The tiny model's codec."""
    return TextCodec.load(str(tiny_model_dir))


@pytest.fixture(scope="module")
def demonstrations() -> list[Demonstration]:
    """Twenty prompts with one answer each, some in every split."""
    found = [Demonstration(f"What is {n} plus {n}?", f"It is {2 * n}.") for n in range(20)]
    assert {split_of(item.prompt) for item in found} == set(Split)
    return found


def test_only_the_answer_is_learned(codec: TextCodec) -> None:
    """Targets are exactly the answer's tokens and the end of text; with learn_prompts, all tokens but the first."""
    item = Demonstration("What is tea?", "Leaves in hot water.")
    split = split_of(item.prompt)
    answer = codec.encode_answers([item.answer])[0]
    for learn_prompts, expected in ((False, answer), (True, [*codec.encode_prompts([item.prompt])[0], *answer][1:])):
        examples = examples_by_split(codec, [item], 128, learn_prompts=learn_prompts)[split]
        ids, _, targets = tensors_of(examples, codec.pad_id)
        assert ids[targets].tolist() == expected


def test_a_long_example_loses_the_beginning_of_its_prompt(codec: TextCodec) -> None:
    """The whole answer is learned if it fits, after as much of the prompt's end as fits before it."""
    item = Demonstration("What is tea? " * 20, "Leaves.")
    example = examples_by_split(codec, [item], 16, learn_prompts=False)[split_of(item.prompt)][0]
    answer = codec.encode_answers(["Leaves."])[0]
    assert len(example.ids) == 16
    assert list(example.ids[example.first_target :]) == answer
    assert list(example.ids[: example.first_target]) == codec.encode_prompts([item.prompt])[0][-(16 - len(answer)) :]


def test_every_epoch_takes_every_example_once_in_another_order() -> None:
    """Batches of similar length drop nothing, repeat nothing, and depend only on seed and epoch."""
    examples = [Example(tuple(range(3 + n % 7)), 1) for n in range(101)]
    numbered = {id(example): n for n, example in enumerate(examples)}
    first, again, second = (batches_of_epoch(examples, 8, seed=1, epoch=epoch) for epoch in (0, 0, 1))
    orders = [[numbered[id(example)] for batch in epoch for example in batch] for epoch in (first, again, second)]
    assert sorted(orders[0]) == list(range(101))
    assert orders[0] == orders[1] != orders[2]
    padding = [max(len(e.ids) for e in batch) * len(batch) - sum(len(e.ids) for e in batch) for batch in first]
    assert sum(padding) < 50  # of 606 tokens; in shuffled order it would be about 300


def test_the_loss_is_the_models_own_likelihood(tiny_model_dir: Path, codec: TextCodec) -> None:
    """Computing only the needed logits gives the same loss as the whole model's log-softmax, whatever the padding."""
    model = load_causal_lm(str(tiny_model_dir), "cpu")
    prompt, answer = codec.encode_prompts(["What is tea?"])[0], codec.encode_answers(["Leaves."])[0]
    sequence = [*prompt, *answer]
    with torch.no_grad():
        logprobs = model(torch.tensor([sequence])).logits.log_softmax(dim=-1)[0]
    expected = -sum(float(logprobs[at - 1, sequence[at]]) for at in range(len(prompt), len(sequence)))
    example = Example(tuple(sequence), len(prompt))
    unlearned = Example(tuple(range(40)), 40)
    for batch in ([example], [example, unlearned]):
        with torch.no_grad():
            assert float(AnswerLoss(model)(*tensors_of(batch, codec.pad_id))) == pytest.approx(expected, rel=1e-5)


def test_training_lowers_the_loss_and_leaves_a_model_to_load(
    tiny_model_dir: Path, codec: TextCodec, demonstrations: list[Demonstration], tmp_path: Path
) -> None:
    """The saved model is the one at the step with the lowest validation loss, with its tokenizer."""
    model = load_causal_lm(str(tiny_model_dir), "cpu")
    steps = []
    report = train_sft(
        model, codec, demonstrations, FAST, tmp_path, on_step=lambda step, total, _loss: steps.append((step, total))
    )
    total = FAST.epochs * -(-report.n["train"] // FAST.batch_size)
    assert steps == [(step, total) for step in range(1, total + 1)]
    assert report.curve[-1].train_loss < report.curve[0].train_loss
    assert report.validation_loss == min(point.validation_loss or 0 for point in report.curve)
    assert json.loads((tmp_path / "report.json").read_text())["best_step"] == report.best_step
    saved = load_causal_lm(str(tmp_path / "policy"), "cpu")
    for name, value in model.state_dict().items():
        assert torch.equal(saved.state_dict()[name], value)
    assert TextCodec.load(str(tmp_path / "policy")).eos_id == codec.eos_id


def test_layers_that_ppo_shares_stay_bitwise_the_same(
    tiny_model_dir: Path, codec: TextCodec, demonstrations: list[Demonstration], tmp_path: Path
) -> None:
    """By default only the layers that PPO trains change: embeddings and the lowest third don't."""
    before = load_causal_lm(str(tiny_model_dir), "cpu").state_dict()
    train_sft(
        load_causal_lm(str(tiny_model_dir), "cpu"),
        codec,
        demonstrations,
        FAST.model_copy(update={"trainable_layers": None}),
        tmp_path,
    )
    after = load_causal_lm(str(tmp_path / "policy"), "cpu").state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.startswith(("transformer.h.1.", "transformer.h.2.", "transformer.ln_f.")) for name in moved)


def test_a_resumed_run_equals_an_uninterrupted_one(
    tiny_model_dir: Path, codec: TextCodec, demonstrations: list[Demonstration], tmp_path: Path
) -> None:
    """A run interrupted between two checkpoints and resumed ends with the same weights and curve."""
    whole = train_sft(load_causal_lm(str(tiny_model_dir), "cpu"), codec, demonstrations, FAST, tmp_path / "whole")

    def stop(step: int, _total: int, _loss: float) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_sft(
            load_causal_lm(str(tiny_model_dir), "cpu"), codec, demonstrations, FAST, tmp_path / "cut", on_step=stop
        )
    steps = []
    resumed = train_sft(
        load_causal_lm(str(tiny_model_dir), "cpu"),
        codec,
        demonstrations,
        FAST,
        tmp_path / "cut",
        on_step=lambda step, _total, _loss: steps.append(step),
    )
    assert steps[0] == 4
    assert resumed == whole
    one, other = (load_causal_lm(str(tmp_path / name / "policy"), "cpu").state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_checkpoint_of_other_data_is_refused(
    tiny_model_dir: Path, codec: TextCodec, demonstrations: list[Demonstration], tmp_path: Path
) -> None:
    """A folder with checkpoints from other demonstrations is refused."""
    train_sft(load_causal_lm(str(tiny_model_dir), "cpu"), codec, demonstrations, FAST, tmp_path)
    with pytest.raises(CheckpointError, match="another run"):
        train_sft(load_causal_lm(str(tiny_model_dir), "cpu"), codec, demonstrations[:-1], FAST, tmp_path)


def test_a_run_that_diverges_stops_and_leaves_no_model(
    tiny_model_dir: Path, codec: TextCodec, demonstrations: list[Demonstration], tmp_path: Path
) -> None:
    """A NaN loss stops training with an error that names the step and a remedy."""
    model = load_causal_lm(str(tiny_model_dir), "cpu")
    with torch.no_grad():
        model.transformer.ln_f.weight[0] = float("nan")
    with pytest.raises(DivergedError, match="learning_rate"):
        train_sft(model, codec, demonstrations, FAST, tmp_path)
    assert not (tmp_path / "policy").exists()


def test_nothing_to_train_on_is_an_error(tiny_model_dir: Path, codec: TextCodec, tmp_path: Path) -> None:
    """Demonstrations that all fall outside the training split are refused."""
    outside = [
        Demonstration(f"question {n}", "answer") for n in range(50) if split_of(f"question {n}") is not Split.TRAIN
    ]
    for demonstrations in ([], outside):
        with pytest.raises(DataError, match="no demonstration to train on"):
            train_sft(load_causal_lm(str(tiny_model_dir), "cpu"), codec, demonstrations, FAST, tmp_path)


def _trained(folder: Path, codec: TextCodec, demonstrations: list[Demonstration], out: Path, **changes: object) -> dict:
    model = load_causal_lm(str(folder), "cpu")
    config = SFTConfig(epochs=2, batch_size=6, learning_rate=1e-3, precision="float32", **changes)
    train_sft(model, codec, demonstrations, config, out)
    return dict(load_causal_lm(str(out / "policy"), "cpu").state_dict())


@pytest.mark.parametrize("layers", ["all", 2])
def test_micro_batches_and_recomputation_learn_the_same(
    tiny_model_dir: Path, codec: TextCodec, demonstrations: list[Demonstration], tmp_path: Path, layers: str | int
) -> None:
    """Two examples at a time, with activations computed twice, give the weights of whole batches."""
    whole = _trained(tiny_model_dir, codec, demonstrations, tmp_path / "whole", trainable_layers=layers)
    changes = {"trainable_layers": layers, "micro_batch_size": 2, "recompute_activations": True}
    parted = _trained(tiny_model_dir, codec, demonstrations, tmp_path / "parted", **changes)
    for name, value in whole.items():
        torch.testing.assert_close(parted[name], value, rtol=0, atol=2e-4)


def test_adapters_are_merged_into_an_ordinary_model(
    tiny_model_dir: Path, codec: TextCodec, demonstrations: list[Demonstration], tmp_path: Path
) -> None:
    """With LoRA the saved folder has the base's tensors, of which only the top layers' linear weights changed."""
    before = load_causal_lm(str(tiny_model_dir), "cpu").state_dict()
    changes = {"trainable": "lora", "trainable_layers": 1}
    after = _trained(tiny_model_dir, codec, demonstrations, tmp_path, **changes)
    assert after.keys() == before.keys()
    changed = {name for name, value in before.items() if not torch.equal(after[name], value)}
    assert changed == {
        f"transformer.h.2.{name}.weight" for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    }
