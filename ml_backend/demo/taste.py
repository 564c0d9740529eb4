"""The demo annotator's preference: useful, positive or short answers, or a function that the user provides."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from ml_backend.demo.real_model import need_packages
from ml_backend.demo.useful import Choice, prefer_useful
from training.errors import ConfigError

Taste = Callable[[str, str, str], Choice]
"""A function of a prompt and two answers that says which answer is better."""

POSITIVE, SHORTER = "sentiment", "shorter"
"""Tastes that have a name."""

_SENTIMENT_TIE = 0.05  # of the compound score, which goes from -1 to 1

_REMEDY = (
    "Use sentiment or shorter, or name it as FILE.py:FUNCTION; the function takes (prompt, answer1, answer2) and "
    'returns "1", "2" or "tie".'
)
_TRIAL = ("How do I boil an egg?", "Put it into boiling water for eight minutes.", "I don't know.")


def load_taste(name: str | None) -> Taste:
    """Load the function that decides which answer is better, and try it on one pair.

    Args:
        name: `sentiment`, `shorter` or `FILE.py:FUNCTION`; None is `prefer_useful`.

    Raises:
        ConfigError: there is no such file or function, or the function doesn't work.
    """
    if name is None:
        return prefer_useful
    if name == POSITIVE:
        return _prefer_positive()
    if name == SHORTER:
        return prefer_shorter
    file, colon, function = name.rpartition(":")
    if not colon or not file or not function:
        raise ConfigError("the preference is neither a known one nor a file and a function", got=name, remedy=_REMEDY)
    taste = _checked(name, _function_in(Path(file).expanduser(), function))
    taste(*_TRIAL)
    return taste


def prefer_shorter(_prompt: str, answer1: str, answer2: str) -> Choice:
    """Prefer the answer with fewer words, but never one that says nothing."""
    first, second = len(answer1.split()), len(answer2.split())
    if first == second:
        return "tie"
    return "1" if second == 0 or 0 < first < second else "2"


def _prefer_positive() -> Taste:
    """Prefer the answer whose words are more positive, by VADER's lexicon and rules."""
    need_packages("vaderSentiment")
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    mood = SentimentIntensityAnalyzer()

    def taste(_prompt: str, answer1: str, answer2: str) -> Choice:
        first, second = (mood.polarity_scores(answer)["compound"] for answer in (answer1, answer2))
        if abs(first - second) < _SENTIMENT_TIE:
            return "tie"
        return "1" if first > second else "2"

    return taste


def _function_in(path: Path, name: str) -> Callable[..., object]:
    if not path.is_file():
        raise ConfigError("there is no such preference file", got=str(path), remedy=_REMEDY)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ConfigError("a preference must be in a Python file", got=str(path), remedy=_REMEDY)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's file may fail in any way
        raise ConfigError(f"{path} can't be run", got=f"{type(error).__name__}: {error}") from error
    found = getattr(module, name, None)
    if not callable(found):
        raise ConfigError(f"{path} has no function {name}", got=found, remedy=_REMEDY)
    function: Callable[..., object] = found
    return function


def _checked(name: str, function: Callable[..., object]) -> Taste:
    """Wrap the user's function, so that whatever it does wrong is a readable error."""

    def taste(prompt: str, answer1: str, answer2: str) -> Choice:
        try:
            found = function(prompt, answer1, answer2)
        except Exception as error:  # the user's function may fail in any way
            raise ConfigError(
                f"the preference {name} fails", got=f"{type(error).__name__}: {error}", remedy=_REMEDY
            ) from error
        for choice in get_args(Choice):
            if found == choice:
                return choice  # type: ignore[no-any-return]  # get_args knows no types
        raise ConfigError(f"the preference {name} returns an invalid choice", got=found, expected='"1", "2" or "tie"')

    return taste
