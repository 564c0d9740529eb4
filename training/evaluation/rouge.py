"""ROUGE: how many words and pairs of words an answer shares with one that a person wrote."""

from __future__ import annotations

from collections.abc import Sequence

_KINDS = ("rouge1", "rouge2", "rougeL")


def rouge(answers: Sequence[str], references: Sequence[str]) -> dict[str, float] | None:
    """Mean F-measures of unigrams, bigrams and longest common subsequence, on stemmed English words.

    Reported but never gated on: summaries people prefer need not repeat the reference's words.

    Args:
        answers: what the model wrote.
        references: what people wrote, one for each answer.

    Returns:
        `rouge1`, `rouge2` and `rougeL` in [0, 1], None if there is nothing to compare.

    Reference: Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries".
    """
    if not answers:
        return None
    from rouge_score.rouge_scorer import RougeScorer  # imports NLTK, which takes a second

    scorer = RougeScorer(list(_KINDS), use_stemmer=True)
    found = [scorer.score(reference, answer) for answer, reference in zip(answers, references, strict=True)]
    return {kind: sum(scores[kind].fmeasure for scores in found) / len(found) for kind in _KINDS}
