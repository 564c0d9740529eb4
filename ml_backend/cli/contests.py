"""The command for contests: what people's verdicts on champion and challenger say, and how to end one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ml_backend.cli.options import LineOption, line_from, settings_from

if TYPE_CHECKING:
    from ml_backend.registry import Registry

SHARES = (0.5, 0.55, 0.6, 0.65, 0.7, 0.8)
"""The true shares that `--simulate` runs contests with."""


def contest(
    line: LineOption = None,
    end: Annotated[bool, typer.Option("--end", help="End the contest: the champion stays.")] = False,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Draw 1,000 contests each at random, and say how often they are right.")
    ] = False,
) -> None:
    """Show what people's verdicts on champion and challenger say so far, and the leaderboard.

    `rankloop promote NAME` ends a contest the other way.

    Examples: `rankloop contest`, `rankloop contest --line summaries --end`, `rankloop contest --simulate`
    """
    settings = settings_from()
    if simulate:
        return _simulate(settings.contest_pairs)
    from ml_backend.loop import Jobs
    from ml_backend.registry import Registry

    registry = Registry(settings)
    line = line_from(registry, line)
    champion, challenger = registry.current(line), registry.challenger(line)
    if end and challenger is not None:
        registry.reject_challenger(challenger.name, champion.name, "A person ended the contest.", by_hand=True)
        typer.echo(f"{challenger.name} challenges {champion.name} no longer; {champion.name} stays champion.")
        return Jobs(settings).champion_changed()
    if end:
        typer.echo(f"No version challenges {champion.name}.")
        raise typer.Exit(1)
    return _show(registry, line)


def _show(registry: Registry, line: str) -> None:
    from ml_backend.observe import output, show_table

    champion, challenger = registry.current(line), registry.challenger(line)
    known = registry.opinions(line)
    found, board = known.get("contest") or {}, known.get("leaderboard") or {}
    current = found.get("champion"), found.get("challenger")
    if current == (champion.name, challenger.name if challenger else None):
        said = str(found["sentence"])
    elif challenger:
        said = f"{challenger.name} challenges {champion.name}: nothing is counted yet."
    else:
        said = f"No version challenges {champion.name}."
    output().print(said, markup=False)
    past = [(version.name, version.fate) for version in registry.versions(line) if version.fate]
    if past:
        rows = [(name, fate.champion, fate.fate, fate.at, fate.why) for name, fate in past]
        show_table(("challenger", "champion", "came to", "at", "why"), rows)
    if board.get("versions"):
        columns = ("version", "strength (95%)", "adjusted for length", "pairs", "votes")
        show_table(columns, [_place(place) for place in board["versions"]])
    if board.get("sentence"):
        output().print(str(board["sentence"]), markup=False)


def _place(place: Mapping[str, Any]) -> tuple[str, ...]:
    shown = [
        f"{place[name]:+.2f} ({place[f'{prefix}interval'][0]:+.2f} to {place[f'{prefix}interval'][1]:+.2f})"
        for name, prefix in (("strength", ""), ("length_adjusted", "length_adjusted_"))
    ]
    return (place["version"], *shown, str(place["pairs"]), str(place["votes"]))


def _simulate(most_pairs: int) -> None:
    from ml_backend.contest import simulate
    from ml_backend.observe import output, show_table

    rows = []
    for share in SHARES:
        found = simulate(share, most_pairs=most_pairs)
        after = [str(number) if number is not None else "-" for number in (found.median, found.ninth_decile)]
        rows.append((f"{share:.0%}", f"{found.promoted:.1%}", f"{found.worse:.1%}", f"{found.undecided:.1%}", *after))
    columns = ("true share", "promoted", "rejected as worse", "not decided", "half promoted by pair", "90% by pair")
    show_table(columns, rows)
    output().print(
        f"1,000 contests each, a tenth of the verdicts ties, looked at after every pair, {most_pairs} pairs at most "
        "(RANKLOOP_CONTEST_PAIRS); undecided ones are then rejected.",
        markup=False,
    )
