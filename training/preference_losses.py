"""What pairs of answers teach, as pure functions: Bradley-Terry's loss and DPO's.

Legend: B pairs, K models.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def bradley_terry_loss(
    chosen: Tensor,
    rejected: Tensor,
    p_chosen: Tensor,
    *,
    label_smoothing: float = 0.0,
    weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy between people's votes and sigmoid(score of chosen - score of rejected), in nats per pair.

    Args:
        chosen, rejected: (B,) scores of the answers most people chose and of the others, or (B, K) from K models.
        p_chosen: (B,) or (B, 1) share of votes for the chosen one; 0.5 is a tie, which pulls the scores together.
        label_smoothing: assumed probability that a vote is the opposite of what was meant.
        weights: the weight of each pair, in the shape of `chosen`; None counts each once.

    Returns:
        Scalar, mean over pairs.

    Reference: Bradley & Terry 1952; Stiennon et al. 2020 (2009.01325), section 3.4.
    """
    target = p_chosen + label_smoothing * (1 - 2 * p_chosen)
    difference = (chosen - rejected).float()
    # logsigmoid, since log(sigmoid(x)) underflows to -inf below about -100.
    losses = target * F.logsigmoid(difference) + (1 - target) * F.logsigmoid(-difference)
    return -(losses if weights is None else losses * weights).mean()


def dpo_loss(
    chosen_log_ratios: Tensor, rejected_log_ratios: Tensor, p_chosen: Tensor, beta: float, weights: Tensor | None = None
) -> Tensor:
    """Direct preference optimisation: Bradley-Terry with the policy's own reward beta log(pi(y|x) / pi_ref(y|x)).

    The best policy under a reward r and a KL penalty beta has r = beta log(pi / pi_ref) + c(x), where c(x) cancels.

    Args:
        chosen_log_ratios, rejected_log_ratios: (B,) log pi(y|x) - log pi_ref(y|x) of the two answers.
        p_chosen: (B,) share of votes for the chosen one; below 1 it is conservative DPO's soft label.
        beta: in units of reward per nat.
        weights: (B,) the weight of each pair; None counts each once.

    Reference: Rafailov et al. 2023 (2305.18290), equation 7.
    """
    return bradley_terry_loss(beta * chosen_log_ratios, beta * rejected_log_ratios, p_chosen, weights=weights)
