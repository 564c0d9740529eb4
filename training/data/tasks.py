"""What a model is trained to write, and where its data come from: answers to prompts, or summaries of posts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from training.config import TextConfig
from training.data.files import AS_DEFAULT, read_demonstrations, read_preferences, read_prompts
from training.data.records import Reading
from training.data.tldr import read_tldr_demonstrations, read_tldr_preferences, read_tldr_prompts
from training.data.types import Demonstration, Preference, PromptRecord
from training.errors import ConfigError, DataError

TaskName = Literal["answers", "tldr"]


@dataclass(frozen=True, slots=True)
class Task:
    """How the data are read, and the template of their texts.

    name: `answers` reads our own files, `tldr` Reddit TL;DR from the hub or from local files.
    limit: the maximum number of rows of a TL;DR dataset to read.
    reading: how our own files are read.

    Raises:
        ConfigError: a limit is given where none applies.
    """

    name: TaskName = "answers"
    limit: int | None = None
    reading: Reading = AS_DEFAULT

    def __post_init__(self) -> None:
        if self.limit is not None and self.name != "tldr":
            raise ConfigError("--limit applies only to TL;DR data", got=self.limit, expected="--task tldr")

    def text(self, config: TextConfig) -> TextConfig:
        """The template; a post already ends in `TL;DR:`, so only a space separates it from its summary."""
        return config.model_copy(update={"separator": ""}) if self.name == "tldr" else config

    def inputs(self) -> dict[str, object]:
        """What else determines a run's result."""
        if self.name != "answers":
            return {"task": self.name, "limit": self.limit}
        return {} if self.reading == AS_DEFAULT else {"reading": asdict(self.reading)}

    def preferences(self, source: Path) -> tuple[list[Preference], int]:
        """Preferences, and how many uninformative rows of TL;DR were left out; those of other files are logged.

        Raises:
            DataError: they can't be read.
        """
        if self.name == "tldr":
            return read_tldr_preferences(str(source), self.limit)
        return read_preferences(source, self.reading), 0

    def prompts(self, source: Path) -> list[PromptRecord]:
        """Prompts, with the answer a person wrote if there is one.

        Raises:
            DataError: they can't be read, or there are none.
        """
        if self.name == "answers":
            return read_prompts(source, self.reading)
        found = read_tldr_prompts(str(source), self.limit)
        if not found:
            raise DataError(f"{source} contains no prompts", expected="at least one")
        return found

    def demonstrations(self, source: Path) -> list[Demonstration]:
        """Answers to imitate.

        Raises:
            DataError: they can't be read.
        """
        if self.name == "tldr":
            return read_tldr_demonstrations(str(source), self.limit)
        return read_demonstrations(source, self.reading)


ANSWERS = Task()
"""Our own files."""
