"""What the page of a version shows: where it comes from, why it passed, what it answers, how it learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ml_backend.page.charts import Chart, charts_of
from ml_backend.page.facts import LineFacts, VersionReports
from ml_backend.page.line_view import VersionRow, roles_of, version_row
from ml_backend.registry import Attempt, Version
from training.evaluation import Example


@dataclass(frozen=True, slots=True)
class VersionView:
    """A version.

    lineage: from its parent to the base, the nearest first.
    children: the versions that were trained from it.
    sentences: what its reports say, in words.
    gates: what each gate said.
    contest: what became of it as a challenger, if it was one.
    examples: its answers beside the base's and those of the champion it was trained to beat.
    """

    row: VersionRow
    line: str
    run_id: str
    lineage: tuple[str, ...]
    children: tuple[str, ...]
    attempt: Attempt | None
    gates: tuple[tuple[str, str], ...]
    sentences: tuple[str, ...]
    contest: str | None = None
    counts: Mapping[str, float] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()
    charts: tuple[Chart, ...] = ()


def view_version(version: Version, facts: LineFacts, reports: VersionReports) -> VersionView:
    """What a version's page shows.

    Args:
        version: the version.
        facts: about its line.
        reports: its reports.
    """
    champion = facts.champions[-1] if facts.champions else None
    challenger = facts.challenger
    job = version.tags.get("workflow_id")
    attempt = next((attempt for attempt in facts.attempts if job and attempt.workflow_id == job), None)
    ended_at = attempt.ended_at if attempt and attempt.status == "promoted" else None
    return VersionView(
        row=version_row(version, roles_of(version, champion, challenger), facts.opinions, ended_at),
        line=version.line,
        run_id=version.run_id,
        lineage=_lineage(version, {each.name: each for each in facts.versions}),
        children=tuple(each.name for each in facts.versions if each.parent == version.name),
        attempt=attempt,
        gates=_gates(attempt),
        sentences=_sentences(reports),
        contest=_contest(version),
        counts={name: version.metrics[name] for name in _COUNTS if name in version.metrics},
        examples=reports.policy.examples if reports.policy else (),
        charts=charts_of(reports),
    )


_COUNTS = ("annotations", "judgements", "preferences")
_GATES = {"reward_gate": "Reward model", "policy_gate": "Policy"}


def _contest(version: Version) -> str | None:
    fate = version.fate
    return None if fate is None else f"Its contest with {fate.champion} is over: {fate.fate}. {fate.why}"


def _lineage(version: Version, known: Mapping[str, Version]) -> tuple[str, ...]:
    names: list[str] = []
    parent = version.parent
    while parent and parent not in names:
        names.append(parent)
        parent = known[parent].parent if parent in known else None
    return tuple(names)


def _gates(attempt: Attempt | None) -> tuple[tuple[str, str], ...]:
    tags = attempt.tags if attempt else {}
    return tuple((title, tags[tag]) for tag, title in _GATES.items() if tags.get(tag))


def _sentences(reports: VersionReports) -> tuple[str, ...]:
    found = list(reports.reward.in_words()) if reports.reward else []
    if reports.policy:
        found += [
            reports.policy.verdict,
            f"Training ended early: {reports.policy.stopped}" * bool(reports.policy.stopped),
        ]
    return tuple(sentence for sentence in found if sentence)
