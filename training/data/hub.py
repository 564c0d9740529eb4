"""Rows of a data set: on the Hugging Face hub, or in local files, read by `datasets`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.data.records import Record
from training.errors import DataError, first_line

_READERS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}
_SAVED_BY_DATASETS = ("dataset_dict.json", "state.json")


def rows_of(source: str, limit: int | None = None) -> Iterator[Record]:
    """The rows of a data set, of all its splits one after the other, since ours go by the prompt.

    Args:
        source: a .json, .jsonl, .csv or .parquet file; a folder of such files, or one that `datasets` saved; or a
            name on the hub, with a configuration behind a colon where it has several (`owner/name:configuration`).
        limit: how many rows to read at most.

    Raises:
        DataError: there is no such data set, or it can't be read.
    """
    number = 0
    for table in tables_of(source):
        for row in table:
            if limit is not None and number >= limit:
                return
            number += 1
            yield Record(Path(source), number, row)


def tables_of(source: str, split: str | None = None) -> list[Any]:
    """The tables of a data set, whose rows can be counted and picked by number: of all its splits, or of one.

    Raises:
        DataError: there is no such data set or split, or it can't be read.
    """
    import datasets  # it takes seconds to load, and only this kind of data needs it

    path = Path(source)
    if path.exists() or path.suffix in _READERS:
        datasets.disable_progress_bars()
    try:
        found = _load(datasets, path, source, split)
    except StopIteration:  # an empty file
        return []
    except (OSError, ValueError, KeyError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            "the data set can't be read",
            got=source,
            expected="a .json, .jsonl, .csv or .parquet file, a folder of them, or a name on the Hugging Face hub",
            remedy=f"Check the path, the name and the network. ({first_line(error)})",
        ) from error
    return list(found.values()) if isinstance(found, dict) else [found]


def _load(datasets: Any, path: Path, source: str, split: str | None) -> Any:
    if path.is_dir() and any((path / name).exists() for name in _SAVED_BY_DATASETS):
        found = datasets.load_from_disk(source)
        return found[split] if split and isinstance(found, dict) else found
    if path.is_dir():
        return datasets.load_dataset(source, split=split)
    if path.is_file() or path.suffix in _READERS:
        if path.suffix not in _READERS:
            raise ValueError(f"unknown kind of file: {path.suffix or path.name}")
        return datasets.load_dataset(_READERS[path.suffix], data_files=source, split=split)
    name, _, configuration = source.partition(":")
    return datasets.load_dataset(name, configuration or None, split=split)
