"""The command `people`: how far a line's people agree, and what stands out about each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from ml_backend.cli.options import settings_from

COLUMNS = (
    "person",
    "judgements",
    "with the others",
    "with the reward model",
    "left",
    "ties",
    "seconds",
    "untouched",
    "with themself",
)


def people(
    line: Annotated[str | None, typer.Argument(help="The line; needed where there are several.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Show how far people agree, and for each person what the judgements say, with warnings in words.

    The worker computes it a minute or so after judgements arrive. `docs/people.md` says what each figure means.

    Examples: `rankloop people`, `rankloop people summaries --json`
    """
    from ml_backend.observe import output, show_table
    from ml_backend.registry import Registry

    registry = Registry(settings_from())
    if line is None:
        line = registry.only_line()
    registry.must_exist(line)
    found = registry.opinions(line).get("people", {})
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    if not found.get("judgements"):
        typer.echo(f"Nobody has judged anything on line {line} yet, or no worker has looked since: `rankloop worker`.")
        return
    show_table(COLUMNS, [row_of(person) for person in found["people"]], title=agreement_in_words(found))
    for said in warnings_in(found):
        output().print(said, markup=False)


def agreement_in_words(found: Mapping[str, Any]) -> str:
    """How far people agree, as one sentence."""
    if found["pairwise"] is None:
        return f"{found['judgements']} judgements; no pair was judged by two people"
    alpha = "-" if found["alpha"] is None else f"{found['alpha']:.2f}{_interval(found['alpha_interval'], '.2f')}"
    pairwise = f"{found['pairwise']:.0%}{_interval(found['pairwise_interval'])}"
    return f"Two people agree on {pairwise} of {found['shared_pairs']} pairs; Krippendorff's alpha is {alpha}"


def row_of(person: Mapping[str, Any]) -> tuple[str, ...]:
    """A person's figures as a table row."""
    seconds = person["seconds_median"]
    return (
        person["annotator"],
        str(person["judgements"]),
        _share(person["agreement"], person["agreement_interval"], person["agreement_pairs"]),
        _share(person["with_reward_model"], person["with_reward_model_interval"], person["with_reward_model_pairs"]),
        _share(person["left_share"], person["left_interval"]),
        _share(person["ties"], None),
        "-" if seconds is None else f"{seconds:.0f}",
        _share(person["untouched_share"], None),
        _share(person["self_agreement"], None, person["repeated_pairs"]),
    )


def warnings_in(found: Mapping[str, Any]) -> Iterator[str]:
    """Every warning, with the name of whom it is about."""
    yield from found["warnings"]
    for person in found["people"]:
        for said in person["warnings"]:
            yield f"{person['annotator']}: {said}"


def _share(value: float | None, interval: Sequence[float] | None, of: int | None = None) -> str:
    if value is None:
        return "-"
    return f"{value:.0%}{_interval(interval)}{f' of {of}' if of else ''}"


def _interval(interval: Sequence[float] | None, form: str = ".0%") -> str:
    return "" if interval is None else f" ({interval[0]:{form}} to {interval[1]:{form}})"
