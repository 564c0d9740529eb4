"""The model card: every figure from the run, and what isn't known said so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ml_backend.handover.card import Facts, model_card
from ml_backend.registry import Version, VersionRecord
from training.config import SamplingConfig, TextConfig

METRICS = {
    "annotations": 130.0,
    "judgements": 120.0,
    "preferences": 110.0,
    "reward_accuracy": 0.72,
    "reward_accuracy_low": 0.63,
    "reward_accuracy_high": 0.8,
    "kl_nats": 4.256,
    "win_rate_vs_base": 0.81,
    "win_rate_low": 0.74,
    "win_rate_high": 0.87,
    "answer_tokens": 30.4,
    "base_answer_tokens": 41.7,
}
REPORTS = {
    "reward": {"prompts": 90, "annotators": 3, "agreement": 0.68},
    "ppo": {"algorithm": "rloo", "evaluated_prompts": 40, "verdict": "It earns its KL."},
}
TRAINED = Facts(
    version=Version(2, "rankloop.a-v2", "a", "run", "rankloop.a-v1", METRICS, {"kind": "cycle"}, 0.0),
    record=VersionRecord(text=TextConfig(), sampling=SamplingConfig(top_k=50, top_p=0.9), base_model="gpt2"),
    chat=False,
    dated=False,
    reports=REPORTS,
    counts={"demonstrations": 7},
)


def test_a_trained_versions_card_has_its_figures() -> None:
    """Counts, agreement, accuracy and win rate with their intervals, KL, lengths, and the verdict on best-of-n."""
    card = model_card(TRAINED)
    for words in (
        "[gpt2](https://huggingface.co/gpt2), fine-tuned with RLOO",
        "Annotations: 130, of which 120 are judgements.",
        "Preferences, each all votes on one pair of answers: 110.",
        "Prompts with such pairs: 90, judged by 3 people.",
        "Answers that people rewrote: 7.",
        "Two people choose the same answer on 68% of pairs.",
        "ranks 72% of pairs it didn't learn from correctly (95% interval 63% to 80%).",
        "to 40 held-out prompts to the base model's 81% of the time (95% interval 74% to 87%)",
        "4.26 nats per answer",
        "on average 30 tokens, the base's 42.",
        "It earns its KL.",
        "People haven't compared its answers with another version's.",
        "temperature 1 and top-k 50 and top-p 0.9, at most 64 tokens long",
    ):
        assert words in card


def test_the_hub_reads_the_cards_metadata() -> None:
    """The hub's own reader finds library, base, tags, and that the license is unknown."""
    from huggingface_hub import ModelCard

    data = ModelCard(model_card(TRAINED)).data.to_dict()
    assert data == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "license": "unknown",
        "base_model": "gpt2",
        "tags": ["rankloop", "rlhf"],
    }
    assert "## License\n\nNot stated." in model_card(TRAINED)


def test_a_base_in_a_folder_is_named_without_its_path(tmp_path: Path) -> None:
    """Where somebody keeps models is nobody else's business, and a folder is no name on the hub."""
    folder = tmp_path / "my-base"
    folder.mkdir()
    card = model_card(replace(TRAINED, record=TRAINED.record.model_copy(update={"base_model": str(folder)})))
    assert "`my-base`, fine-tuned" in card
    assert str(tmp_path) not in card
    assert "base_model:" not in card


def test_the_base_models_card_claims_nothing() -> None:
    """A version that learned nothing has no figures."""
    version = replace(TRAINED.version, metrics={}, tags={"kind": "base"})
    card = model_card(replace(TRAINED, version=version, reports={}, counts={}))
    assert "not trained on any judgement" in card
    assert "%" not in card
    assert "rlhf" not in card


def test_what_people_say_of_versions_is_in_the_card() -> None:
    """Agreement with its interval; the contest from this version's side, whichever side it is on; its strength."""
    contest = {"champion": "rankloop.a-v1", "challenger": "rankloop.a-v2", "share": 0.6, "interval": [0.5, 0.7]}
    rows = [{"version": "rankloop.a-v2", "strength": 0.4, "interval": [0.1, 0.7], "pairs": 80}]
    people = {"pairwise": 0.7, "pairwise_interval": [0.6, 0.8], "alpha": 0.41, "alpha_interval": [0.2, 0.6]}
    opinions = {"people": people, "contest": {**contest, "pairs": 50}, "leaderboard": {"versions": rows}}
    card = model_card(replace(TRAINED, opinions=opinions))
    assert "agree on 70% of the pairs that both judged (95% interval 60% to 80%)." in card
    assert "Krippendorff's alpha: 0.41 (95% interval 0.20 to 0.60)." in card
    assert "to those of `rankloop.a-v1` 60% of the time (95% interval 50% to 70%), over 50 pairs." in card
    assert "+0.40 in log-odds (95% interval 0.10 to 0.70), from 80 pairs." in card
    champion = replace(TRAINED, version=replace(TRAINED.version, name="rankloop.a-v1"), opinions=opinions)
    assert "to those of `rankloop.a-v2` 40% of the time (95% interval 30% to 50%)" in model_card(champion)


def test_what_is_unknown_is_said() -> None:
    """Nobody judged a pair twice; the reward model may be no better than chance."""
    version = replace(TRAINED.version, metrics={**METRICS, "reward_accuracy_low": 0.47})
    card = model_card(replace(TRAINED, version=version, reports={"reward": {"agreement": None}}))
    assert "How far people agree is unknown: no pair was judged by two." in card
    assert "includes chance: it may have learned nothing." in card


def test_a_system_prompt_with_quotes_is_code_that_runs() -> None:
    """The card's code holds it as Python writes it."""
    text = TextConfig(system_prompt="Say \"so\" and\n'no'.")
    card = model_card(replace(TRAINED, chat=True, record=TRAINED.record.model_copy(update={"text": text})))
    code = card.partition("```python\n")[2].partition("```")[0]
    messages = code.partition("messages = ")[2].partition("\ntext =")[0]
    assert eval(messages)[0] == {"role": "system", "content": "Say \"so\" and\n'no'."}  # noqa: S307  # our own card
