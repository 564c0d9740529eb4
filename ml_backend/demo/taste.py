"""What the demo's annotator likes: the useful answer, or whatever a function of the person's own says."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from training.errors import ConfigError

Choice = Literal["1", "2", "tie"]
Taste = Callable[[str, str, str], Choice]
"""A function of a prompt and two answers that says which answer is better."""

_REMEDY = 'Name it as FILE.py:FUNCTION; the function takes (prompt, answer1, answer2) and returns "1", "2" or "tie".'
_TRIAL = ("How do I boil an egg?", "Put it into boiling water for eight minutes.", "I don't know.")


def load_taste(name: str | None) -> Taste:
    """The function that decides which answer is better, tried on one pair.

    Args:
        name: `FILE.py:FUNCTION`; None is `prefer_useful`.

    Raises:
        ConfigError: there is no such file or function, or it doesn't work.
    """
    if name is None:
        from ml_backend.demo.useful import prefer_useful

        return prefer_useful
    file, colon, function = name.rpartition(":")
    if not colon or not file or not function:
        raise ConfigError("this names no preference", got=name, remedy=_REMEDY)
    taste = _checked(name, _function_in(Path(file).expanduser(), function))
    taste(*_TRIAL)
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
    except Exception as error:  # whatever the person's file does wrong
        raise ConfigError(f"{path} can't be run", got=f"{type(error).__name__}: {error}") from error
    found = getattr(module, name, None)
    if not callable(found):
        raise ConfigError(f"{path} has no function {name}", got=found, remedy=_REMEDY)
    function: Callable[..., object] = found
    return function


def _checked(name: str, function: Callable[..., object]) -> Taste:
    """The person's function; what it does wrong is said in words."""

    def taste(prompt: str, answer1: str, answer2: str) -> Choice:
        try:
            found = function(prompt, answer1, answer2)
        except Exception as error:  # whatever the person's function does wrong
            raise ConfigError(
                f"the preference {name} fails", got=f"{type(error).__name__}: {error}", remedy=_REMEDY
            ) from error
        for choice in get_args(Choice):
            if found == choice:
                return choice  # type: ignore[no-any-return]  # get_args knows no types
        raise ConfigError(f"the preference {name} returns what can't be used", got=found, expected='"1", "2" or "tie"')

    return taste
