"""The settings that differ by project, as the ML backend's `extra_params` in Label Studio hold them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from ml_backend.registry import LINE_NAME
from training.errors import ConfigError, DataError

MOST_NEW_TOKENS = 4096
MOST_SYSTEM_PROMPT_CHARACTERS = 8000
MOST_TRAIN_AFTER = 1_000_000
MOST_ROUNDS = 100
MOST_TOP_UP = 1000
MOST_REPEATS = 0.5

Promotion = Literal["automatic", "people"]
"""Who decides on a version that passed its gates."""

_MOST = {
    "max_new_tokens": MOST_NEW_TOKENS,
    "train_after": MOST_TRAIN_AFTER,
    "rounds": MOST_ROUNDS,
    "tries": MOST_ROUNDS,
    "top_up": MOST_TOP_UP,
}
_EXPECTED = {
    "line": "a name of 1 to 40 lower-case letters, digits, dashes and underscores, the first a letter or digit",
    "system_prompt": f"a text of 1 to {MOST_SYSTEM_PROMPT_CHARACTERS} characters",
    "max_new_tokens": f"a whole number from 1 to {MOST_NEW_TOKENS}",
    "train_after": f"a whole number from 1 to {MOST_TRAIN_AFTER}",
    "rounds": f"a whole number from 1 to {MOST_ROUNDS}",
    "tries": f"a whole number from 1 to {MOST_ROUNDS}",
    "promotion": "automatic or people",
    "top_up": f"a whole number from 1 to {MOST_TOP_UP}",
    "repeats": f"a number from 0 to {MOST_REPEATS}",
}


@dataclass(frozen=True, slots=True)
class ProjectSettings:
    """A project's own settings; what is None follows the backend's settings.

    line: the line of versions it shares; None for a line of its own.
    system_prompt: what the model is told before each prompt.
    max_new_tokens: the longest answer, in tokens.
    train_after: new judgements that start a training cycle.
    rounds: in how many rounds a prompt gets a fresh pair from a newer version.
    tries: how many pairs a prompt gets in a round at most, while people call both answers bad.
    promotion: `automatic`, or `people` where their verdicts decide on a version that passed its gates.
    top_up: how many tasks with answers always wait, where tasks hold the answers.
    repeats: the share of judged live pairs that are shown once more.
    """

    line: str | None = None
    system_prompt: str | None = None
    max_new_tokens: int | None = None
    train_after: int | None = None
    rounds: int | None = None
    tries: int | None = None
    promotion: Promotion | None = None
    top_up: int | None = None
    repeats: float | None = None

    def as_extra_params(self) -> dict[str, Any]:
        """The settings that are set, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def read_extra_params(value: object) -> ProjectSettings:
    """Read `extra_params` as Label Studio sends or stores them: nothing, an object, or an object's JSON as text.

    Raises:
        DataError: names the key that is unknown or has an unusable value.
    """
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except ValueError as error:
            raise DataError("extra_params isn't JSON", expected='an object such as {"line": "summaries"}') from error
    if value is None or value == "":
        return ProjectSettings()
    if not isinstance(value, Mapping):
        kind = type(value).__name__
        raise DataError("extra_params can't be used", got=f"a {kind}", expected='an object such as {"train_after": 40}')
    known = [field.name for field in fields(ProjectSettings)]
    for key, given in value.items():
        if key not in known:
            raise DataError("extra_params has an unknown key", got=str(key)[:60], expected=f"one of {', '.join(known)}")
        if given is not None and not _fits(key, given):
            raise DataError(f"extra_params.{key} can't be used", got=_shown(given), expected=_EXPECTED[key])
    return ProjectSettings(**value)


def agreed(by_project: Mapping[int, ProjectSettings]) -> ProjectSettings:
    """The settings of one line from those of its projects: a common system prompt and length, the lowest threshold, and
    people decide on promotions if they are to in any of them.

    Raises:
        ConfigError: two projects of the line want different system prompts or answer lengths.
    """
    for name in ("system_prompt", "max_new_tokens"):
        if len({getattr(settings, name) for settings in by_project.values()}) > 1:
            raise ConfigError(
                f"projects of one line have different settings: {name}",
                got=", ".join(f"project {number}" for number in sorted(by_project)),
                expected="the same in each, as one model answers in all of them",
                remedy="Set it alike with `rankloop init-project --project ID`, or give the projects separate lines.",
            )
    some = next(iter(by_project.values()), ProjectSettings())
    thresholds = [settings.train_after for settings in by_project.values() if settings.train_after is not None]
    promotions = {settings.promotion for settings in by_project.values()} - {None}
    return ProjectSettings(
        some.line,
        some.system_prompt,
        some.max_new_tokens,
        min(thresholds, default=None),
        promotion="people" if "people" in promotions else "automatic" if promotions else None,
    )


def _fits(key: str, value: object) -> bool:
    if key == "line":
        return isinstance(value, str) and LINE_NAME.fullmatch(value) is not None
    if key == "system_prompt":
        return isinstance(value, str) and bool(value.strip()) and len(value) <= MOST_SYSTEM_PROMPT_CHARACTERS
    if key == "promotion":
        return value in get_args(Promotion)
    if key == "repeats":
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST_REPEATS
    return type(value) is int and 1 <= value <= _MOST[key]


def _shown(value: object) -> str:
    """A value for an error message; long texts are described, since they may hold what people wrote."""
    if isinstance(value, str):
        return repr(value) if len(value) <= 60 else f"a text of {len(value)} characters"
    return json.dumps(value, default=str)[:60]
