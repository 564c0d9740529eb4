"""Measures of a trained reward model, on pairs that it didn't learn from.

Legend: N pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.data import Preference, Split, prompt_in_words, split_of
from training.evaluation import (
    Accuracy,
    clustered_accuracy,
    correlation,
    expected_calibration_error,
    fit_temperature,
)
from training.models import RewardModel, TextCodec
from training.reward.choose import FittedProbes
from training.reward.features import PairFeatures
from training.reward.folds import Folds
from training.reward.probe import pair_losses
from training.reward.report import RewardPoint, RewardReport
from training.reward.tune import PROBE_SHARE, Tuning


@dataclass(frozen=True, slots=True)
class Measured:
    """What is measured: the pairs, their features, and what was fitted on them.

    learned, test: the pairs that taught it, and those that were set aside.
    pairs, folds, probes, tuning: of the pairs that taught it.
    refusal: why the top layers weren't trained, None if they were.
    """

    learned: Sequence[Preference]
    test: Sequence[Preference]
    pairs: PairFeatures
    folds: Folds
    probes: FittedProbes
    tuning: Tuning | None
    refusal: str | None

    def out_of_fold(self) -> tuple[Tensor, Tensor]:
        """(N,) score differences by models that never saw the pair's prompt, and (N,) whether the pair has one."""
        if self.tuning is not None and self.tuning.kept:
            return self.tuning.out_of_fold, self.tuning.measured
        return self.probes.out_of_fold, torch.full((len(self.pairs),), self.folds.count > 1)

    def scored(self, temperature: float) -> list[tuple[Preference, float]]:
        """The pairs that have an out-of-fold score, each with the log-odds that its chosen answer is the better one.

        Args:
            temperature: by which score differences are divided.
        """
        scores, measured = self.out_of_fold()
        found = zip(self.learned, scores.tolist(), measured.tolist(), strict=True)
        return [(pair, score / temperature) for pair, score, known in found if known]


def first_point(probes: FittedProbes, pairs: PairFeatures) -> RewardPoint:
    """The probe's point of the curve: its loss on the pairs it learned from, and on those it didn't."""
    untied = pairs.p_chosen != 0.5
    rows = torch.arange(len(pairs))
    members = [member.scores(pairs.differences, rows) for member in probes.members]
    own, theirs = (
        float((pair_losses(scores, pairs.p_chosen) * pairs.votes).sum() / pairs.votes.sum())
        for scores in (torch.stack(members).mean(dim=0), probes.out_of_fold)
    )
    return RewardPoint(0, own, theirs, float((probes.out_of_fold[untied] > 0).double().mean()))


def accuracy_of(differences: Tensor, p_chosen: Tensor, groups: Tensor) -> Accuracy:
    """The accuracy on pairs with a winner, with an interval that allows for pairs of one prompt being alike."""
    untied = p_chosen != 0.5
    return clustered_accuracy(differences[untied] > 0, groups[untied])


def accuracy_by_agreement(differences: Tensor, p_chosen: Tensor, votes: Tensor, groups: Tensor) -> dict[str, Accuracy]:
    """Accuracy on pairs that one person judged, that several judged alike, and that people were split over.

    A model should be right more often where people agree; the pairs they are split over limit its accuracy.

    Args:
        differences: (N,) score of the chosen minus score of the rejected answer.
        p_chosen: (N,) share of votes for the chosen one; ties are left out.
        votes: (N,) number of people who judged.
        groups: (N,) the same number for pairs of one prompt.
    """
    kinds = {
        "one vote": votes == 1,
        "unanimous": (votes > 1) & (p_chosen == 1.0),
        "split": (votes > 1) & (p_chosen < 1.0),
    }
    return {name: accuracy_of(differences[inside], p_chosen[inside], groups[inside]) for name, inside in kinds.items()}


def agreement_of(preferences: Sequence[Preference]) -> float | None:
    """How often two people who judged the same pair choose the same answer; None if no pair has two votes.

    It is computed from shares of votes, where a tie counts half for each answer.
    """
    same = total = 0.0
    for pair in preferences:
        if pair.votes > 1:
            first = pair.p_chosen * pair.votes
            second = pair.votes - first
            same += (first * (first - 1) + second * (second - 1)) / 2
            total += pair.votes * (pair.votes - 1) / 2
    return max(0.0, same) / total if total else None


def left_share(preferences: Sequence[Preference]) -> Accuracy | None:
    """The share of decided votes for the answer on the left, by prompt; None if no vote's side is known."""
    names = {
        prompt: number for number, prompt in enumerate({prompt_in_words(pair.prompt): None for pair in preferences})
    }
    votes, groups = [], []
    for pair in preferences:
        left, right = pair.source.left_votes, pair.source.right_votes
        votes += [1.0] * left + [0.0] * right
        groups += [names[prompt_in_words(pair.prompt)]] * (left + right)
    return clustered_accuracy(torch.tensor(votes), torch.tensor(groups)) if votes else None


def measure(model: RewardModel, codec: TextCodec, found: Measured, first: RewardPoint) -> RewardReport:
    """Measure accuracy, calibration and correlations; sets the model's temperature.

    Args:
        model: as it is saved.
        codec: has counted the texts it truncated.
        found: what is measured.
        first: the probe's point of the curve.
    """
    pairs, folds, tuning = found.pairs, found.folds, found.tuning
    probe, kept = found.probes.out_of_fold, tuning is not None and tuning.kept
    scores, measured = found.out_of_fold()
    scores, target, groups = scores[measured], pairs.p_chosen[measured], folds.groups[measured]
    model.temperature = fit_temperature(scores, target)
    counted_pairs = [pair for pair, inside in zip(found.learned, measured.tolist(), strict=True) if inside]
    splits = [split_of(pair.prompt) for pair in found.learned]
    inside = {split: torch.tensor([each is split for each in splits])[measured] for split in Split}
    on_test, every, lengths = _on_test(model, codec, found)
    right = {
        split.value: accuracy_of(scores[rows], target[rows], groups[rows]).accuracy for split, rows in inside.items()
    }
    counted = {split: [pair for pair in found.learned if split_of(pair.prompt) is split] for split in Split}
    counted[Split.TEST] = list(found.test)
    return RewardReport(
        accuracy={**right, "test": on_test.accuracy},
        accuracy_interval=on_test.interval,
        n={split.value: len(part) for split, part in counted.items()},
        ties={split.value: sum(pair.is_tie for pair in part) for split, part in counted.items()},
        curve=tuning.curve if tuning else (first,),
        best_epoch=tuning.epochs if tuning and kept else 0,
        temperature=model.temperature,
        calibration_error=expected_calibration_error(scores, target, model.temperature),
        length_correlation=correlation(every, lengths),
        accuracy_by_agreement=accuracy_by_agreement(scores, target, pairs.votes[measured], groups),
        disagreement=_disagreement(model, found),
        truncated_prompts=codec.truncated_prompts,
        truncated_answers=codec.truncated_answers,
        out_of_fold=accuracy_of(scores, target, groups),
        probe_out_of_fold=accuracy_of(probe, pairs.p_chosen, folds.groups),
        held_out_by="prompt" if folds.by_prompt else "pair",
        folds=folds.count,
        reads=tuple((site.depth, site.pool) for site in (model.probe.sites if model.probe else ())),
        deviations=tuple(choice.deviation for member in found.probes.members for choice in member.choices),
        loss_by_depth=_loss_by_depth(found.probes),
        tuned=kept,
        tuning=_tuning_in_words(found),
        prompts=len({prompt_in_words(pair.prompt) for pair in (*found.learned, *found.test)}),
        annotators=len({name for pair in (*found.learned, *found.test) for name in pair.annotators}),
        agreement=agreement_of([*found.learned, *found.test]),
        rewrites=sum(pair.source.rewrite for pair in (*found.learned, *found.test)),
        left=left_share([*found.learned, *found.test]),
        judge_pairs=int((~found.probes.steering).sum()),
        accuracy_by_selection=_by_selection(counted_pairs, scores, target, groups),
    )


def _by_selection(
    preferences: Sequence[Preference], differences: Tensor, p_chosen: Tensor, groups: Tensor
) -> dict[str, Accuracy]:
    """The accuracy by how pairs were chosen from candidates, where that is known."""
    kinds = [pair.source.selection for pair in preferences]
    found = {}
    for kind in sorted({kind for kind in kinds if kind is not None}):
        inside = torch.tensor([each == kind for each in kinds])
        found[kind] = accuracy_of(differences[inside], p_chosen[inside], groups[inside])
    return found


def _on_test(model: RewardModel, codec: TextCodec, found: Measured) -> tuple[Accuracy, Tensor, Tensor]:
    """The accuracy on the test pairs; scores and lengths in tokens of the answers that nothing was learned from.

    Where no answer was set aside, they are those of the answers it learned from.
    """
    asked = list(found.test) or list(found.learned)
    prompts = [pair.prompt for pair in asked]
    chosen, rejected = (
        model.score_texts(codec, prompts, texts)
        for texts in ([pair.chosen for pair in asked], [pair.rejected for pair in asked])
    )
    lengths = torch.tensor(
        [len(ids) for pair in asked for ids in codec.encode_answers([pair.chosen, pair.rejected])], dtype=torch.float64
    )
    every = torch.stack([chosen, rejected], dim=1).flatten()
    if not found.test:
        return Accuracy(None, (0.0, 1.0), 0), every, lengths
    names = [prompt_in_words(prompt) for prompt in prompts]
    groups = torch.tensor([names.index(name) for name in names])
    p_chosen = torch.tensor([pair.p_chosen for pair in asked])
    return accuracy_of(chosen - rejected, p_chosen, groups), every, lengths


def _disagreement(model: RewardModel, found: Measured) -> dict[str, float] | None:
    """Mean standard error of score differences on untied pairs, by whether the out-of-fold score is right.

    The standard errors are those of pairs that most of the ensemble learned from.
    """
    if len(found.probes.members) < 2:
        return None
    pairs, rows = found.pairs, (found.pairs.p_chosen != 0.5).nonzero().flatten()
    each = torch.stack([member.scores(pairs.differences, rows) for member in found.probes.members])
    share = PROBE_SHARE if found.tuning and found.tuning.kept else 1.0
    errors, right = share * model.uncertainty_scale * each.std(dim=0), found.probes.out_of_fold[rows] > 0
    groups = {"right": errors[right], "wrong": errors[~right]}
    return {name: float(values.mean()) for name, values in groups.items() if len(values)}


def _loss_by_depth(probes: FittedProbes) -> dict[str, float]:
    """The lowest out-of-fold loss of probes that read one depth, by depth."""
    found: dict[int, float] = {}
    for choice, loss in probes.losses.items():
        depths = {site.depth for site in choice.sites}
        if len(depths) == 1:
            depth = depths.pop()
            found[depth] = min(loss, found.get(depth, loss))
    return {str(depth): loss for depth, loss in sorted(found.items())}


def _tuning_in_words(found: Measured) -> str:
    if found.tuning is None:
        return f"The layers above weren't trained: {found.refusal}."
    outcome = f"Layers above trained for {found.tuning.epochs} epochs" if found.tuning.kept else "Layers above dropped"
    return f"{outcome}: {found.tuning.why}."
