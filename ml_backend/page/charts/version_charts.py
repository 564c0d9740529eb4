"""The charts of a version's page: what its KL buys, and how reward model and policy learned."""

from __future__ import annotations

from ml_backend.page.charts.chart import Chart, Point, Series
from ml_backend.page.facts import VersionReports
from training.ppo import PPOReport
from training.reward import RewardReport

_CURVES = {
    "reward": ("Reward in training", "mean reward", "reward"),
    "kl": ("Distance from the base in training", "KL, nats", "kl_nats"),
    "length": ("Length of answers in training", "tokens", "answer_tokens"),
    "entropy": ("Entropy in training", "nats per token", "entropy_nats"),
}
"""For each chart of the policy's training its title, its unit, and the field of `PPOPoint`."""


def charts_of(reports: VersionReports) -> tuple[Chart, ...]:
    """The charts of a version's page: what its KL buys, and how reward model and policy learned."""
    found: list[Chart] = []
    if reports.policy:
        found += [*_frontier(reports.policy), *_policy_curves(reports.policy)]
    if reports.reward:
        found += _reward_curves(reports.reward)
    return tuple(found)


def _frontier(report: PPOReport) -> list[Chart]:
    if not report.best_of_n or report.kl_from_base_nats is None:
        return []
    curve = tuple(Point(point.kl_nats, point.win_rate) for point in report.best_of_n)
    policy = (Point(report.kl_from_base_nats, report.win_rate_on_pool),)
    series = (Series("best of n of the base", curve), Series("this version", policy, is_marked=True))
    title = "What the KL buys: beside the best of n answers of the base"
    said = report.verdict or "Win rate against the base over KL from the base."
    return [Chart("frontier", title, "KL from the base, nats", "win rate", said, series, is_share=True)]


def _policy_curves(report: PPOReport) -> list[Chart]:
    if not report.curve:
        return []
    found = []
    for name, (title, unit, field) in _CURVES.items():
        values = [(point.iteration, getattr(point, field)) for point in report.curve]
        points = tuple(Point(iteration, value) for iteration, value in values)
        said = f"{unit} over {len(points)} iterations, from {values[0][1]:.3g} to {values[-1][1]:.3g}."
        found.append(Chart(f"policy-{name}", title, "iteration", unit, said, (Series(unit, points),)))
    return found


def _reward_curves(report: RewardReport) -> list[Chart]:
    curve = report.curve
    if len(curve) < 2:
        return []  # one point is no curve: only the probe was fitted
    training = tuple(Point(point.step, point.train_loss) for point in curve)
    validation = tuple(Point(point.step, point.validation_loss) for point in curve)
    accuracy = tuple(Point(point.step, point.accuracy) for point in curve)
    losses = (Series("training", training), Series("validation", validation))
    said = "Loss of the reward model by epoch; step 0 is the probe."
    return [
        Chart("reward-loss", "Loss of the reward model", "epoch", "nats per pair", said, losses),
        Chart(
            "reward-accuracy", "Held-out accuracy of the reward model", "epoch", "accuracy",
            "Accuracy on pairs that it didn't learn from, by epoch.", (Series("accuracy", accuracy),), is_share=True,
        ),
    ]  # fmt: skip
