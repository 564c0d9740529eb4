"""One contest: the annotator judges pairs of champion and challenger until people's verdicts decide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ml_backend.contest import decide, joint_name, meetings_in
from ml_backend.demo.annotator import SimulatedAnnotator, annotate_round
from ml_backend.demo.screen import Phase
from ml_backend.demo.stack import DemoStack
from ml_backend.label_studio import LabelStudio, Project
from ml_backend.labels import judgements_from_export, parse_label_config, read_moment
from ml_backend.lines import own_line
from ml_backend.registry import Registry
from training.errors import RankloopError

BATCH = 20
"""Judgements between two looks at what they come to."""
MOST_JUDGEMENTS = 160
HEARD_TIMEOUT_S = 900.0
"""How long the worker may take to hear the verdicts: it looks once a minute at most, and less often if that is slow."""


@dataclass(frozen=True, slots=True)
class ContestFigures:
    """A contest at its end.

    judgements: how many the annotator made in it, on any pair.
    fate: what became of the challenger, and `why`, in the worker's words.
    test: the state of the test, computed from Label Studio's annotations.
    """

    judgements: int
    fate: str
    why: str
    test: dict[str, Any]


def hold_contest(
    stack: DemoStack,
    label_studio: LabelStudio,
    registry: Registry,
    project: Project,
    annotator: SimulatedAnnotator,
    phase: Phase,
    wait_for_proposals: Callable[[], None],
) -> ContestFigures:
    """Judge pairs in batches until they decide, and wait until the worker has promoted or rejected the challenger.

    Raises:
        RankloopError: the line has no challenger, or it isn't decided within `MOST_JUDGEMENTS` judgements.
    """
    line = own_line(project.id)
    champion, challenger = registry.current(line), registry.challenger(line)
    if challenger is None:
        raise RankloopError(f"no version challenges {champion.name}", remedy="See why with `rankloop versions`.")
    name = joint_name(champion.name, challenger.name)
    wait_for_proposals()
    test: dict[str, Any] = {}

    def is_over() -> bool:
        return registry.challenger(line) is None

    for judged in range(BATCH, MOST_JUDGEMENTS + 1, BATCH):
        annotate_round(label_studio, project, name, annotator, BATCH, lambda *_: None)
        tasks = label_studio.export_tasks(project.id)
        judgements, _ = judgements_from_export(tasks, parse_label_config(project.label_config), project.id)
        met = meetings_in(judgements, read_moment)
        limit = stack.settings.contest_pairs
        test = decide(champion.name, challenger.name, met, most_pairs=limit).document()
        phase.at(judged, MOST_JUDGEMENTS)
        so_far = ", ".join(f"{test[what]} {what}" for what in ("wins", "losses", "ties"))
        phase.note(f"{challenger.name}: {so_far}: {test['decision']}")
        if is_over() or test["decision"] in {"promote", "reject"}:
            break
    if test["decision"] in {"promote", "reject"}:
        stack.wait_until(is_over, "the worker acts on the decision", timeout_s=HEARD_TIMEOUT_S)
    fate = registry.get(challenger.name).fate
    if fate is None:
        undecided = f"{MOST_JUDGEMENTS} judgements didn't decide on {challenger.name}"
        raise RankloopError(undecided, got=test.get("sentence"))
    phase.note(f"{challenger.name} was {fate.fate} after {test['pairs']} pairs")
    return ContestFigures(judged, fate.fate, fate.why, test)
