"""The settings that differ by project, as Label Studio keeps them."""

from __future__ import annotations

import pytest

from ml_backend.lines.project_settings import ProjectSettings, agreed, read_extra_params
from training.errors import ConfigError, DataError


@pytest.mark.parametrize("nothing", [None, "", {}, "{}", {"line": None}])
def test_nothing_set_is_nothing(nothing: object) -> None:
    """However Label Studio writes it."""
    assert read_extra_params(nothing) == ProjectSettings()


def test_what_is_set_is_read_and_written_alike() -> None:
    """As an object and as text; what isn't set is left out."""
    given = {"line": "summaries", "system_prompt": "Be brief.", "max_new_tokens": 40, "train_after": 25}
    settings = read_extra_params(given)
    assert settings == ProjectSettings("summaries", "Be brief.", 40, 25)
    assert settings.as_extra_params() == given
    assert read_extra_params('{"line": "a"}').as_extra_params() == {"line": "a"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"Line": "a"}, "unknown key; got 'Line'"),
        ({"line": "A"}, "extra_params.line"),
        ({"line": ""}, "extra_params.line"),
        ({"line": "a.b"}, "extra_params.line"),
        ({"line": "a" * 41}, "extra_params.line"),
        ({"line": 7}, "extra_params.line"),
        ({"system_prompt": " "}, "extra_params.system_prompt"),
        ({"max_new_tokens": 0}, "extra_params.max_new_tokens"),
        ({"max_new_tokens": 4097}, "expected a whole number from 1 to 4096"),
        ({"max_new_tokens": "40"}, "extra_params.max_new_tokens"),
        ({"top_up": 1001}, "expected a whole number from 1 to 1000"),
        ({"repeats": 0.6}, "expected a number from 0 to 0.5"),
        ({"repeats": True}, "extra_params.repeats"),
        ({"repeats": "0.1"}, "extra_params.repeats"),
        ({"train_after": 1.5}, "extra_params.train_after"),
        ({"promotion": "everybody"}, "expected automatic or people"),
        ([], "got 'a list'"),
        ("{", "isn't JSON"),
    ],
)
def test_what_cannot_be_used_is_named(given: object, said: str) -> None:
    """The error names the key, what it got and what it expected."""
    with pytest.raises(DataError) as caught:
        read_extra_params(given)
    assert said in str(caught.value)


def test_a_long_value_is_described_and_not_repeated() -> None:
    """It may be what people wrote."""
    with pytest.raises(DataError, match="a text of 9000 characters"):
        read_extra_params({"system_prompt": "x" * 9000})


def test_a_lines_projects_agree_on_what_the_model_is_told() -> None:
    """The lowest threshold counts; another prompt or length in one of them is an error that names the projects."""
    first, second = ProjectSettings("a", None, 40, 30), ProjectSettings("a", None, 40, 20)
    assert agreed({1: first, 2: second}) == ProjectSettings("a", None, 40, 20)
    assert agreed({1: ProjectSettings()}) == ProjectSettings()
    with pytest.raises(ConfigError, match=r"different settings: max_new_tokens; got 'project 1, project 2'"):
        agreed({1: first, 2: ProjectSettings("a", None, 41)})


def test_people_promote_on_a_line_if_they_do_in_any_of_its_projects() -> None:
    """A project that says nothing follows the others; of two that differ, the one with people counts."""
    people, automatic = (ProjectSettings(promotion=who) for who in ("people", "automatic"))  # type: ignore[arg-type]
    assert read_extra_params({"promotion": "people"}) == people
    assert agreed({1: ProjectSettings(), 2: people}).promotion == "people"
    assert agreed({1: automatic, 2: people}).promotion == "people"
    assert agreed({1: automatic, 2: ProjectSettings()}).promotion == "automatic"
    assert agreed({1: ProjectSettings()}).promotion is None
