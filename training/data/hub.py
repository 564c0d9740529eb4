"""Datasets of the Hugging Face library: read from the hub or from local files, and written to a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from training.data.records import Record
from training.errors import DataError, first_line

_READERS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}
_SAVED_BY_DATASETS = ("dataset_dict.json", "state.json")

Column = Literal["text", "messages", "share", "count", "flag"]
"""What a column holds. Any of them may hold None."""


def rows_of(source: str, limit: int | None = None) -> Iterator[Record]:
    """The rows of all splits of a dataset, one after another, since we split by prompt ourselves.

    Args:
        source: a .json, .jsonl, .csv or .parquet file; a folder of such files, or one that `datasets` saved; or a
            name on the hub, with the configuration after a colon if it has several (`owner/name:configuration`).
        limit: the maximum number of rows to read.

    Raises:
        DataError: there is no such dataset, or it can't be read.
    """
    number = 0
    for table in tables_of(source):
        for row in table:
            if limit is not None and number >= limit:
                return
            number += 1
            yield Record(Path(source), number, row)


def tables_of(source: str, split: str | None = None) -> list[Any]:
    """The tables of all splits of a dataset, or of one split; their rows can be counted and indexed.

    Raises:
        DataError: there is no such dataset or split, or it can't be read.
    """
    import datasets  # takes seconds to import, and only datasets need it

    path = Path(source)
    if path.exists() or path.suffix in _READERS:
        datasets.disable_progress_bars()
    try:
        found = _load(datasets, path, source, split)
    except StopIteration:  # an empty file
        return []
    except (OSError, ValueError, KeyError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            "the dataset can't be read",
            got=source,
            expected="a .json, .jsonl, .csv or .parquet file, a folder of them, or a name on the Hugging Face hub",
            remedy=f"Check the path, the name and the network. ({first_line(error)})",
        ) from error
    return list(found.values()) if isinstance(found, dict) else [found]


def save_dataset(
    folder: Path, splits: Mapping[str, Sequence[Mapping[str, Any]]], columns: Mapping[str, Column]
) -> None:
    """Write a `DatasetDict` that `datasets.load_from_disk` reads.

    Args:
        folder: the new folder.
        splits: the rows of each split, at least one, since a split without rows couldn't be loaded.
        columns: what the rows hold, by name.
    """
    import datasets

    datasets.disable_progress_bars()
    text = datasets.Value("string")
    kinds = {
        "text": text,
        "messages": datasets.List({"role": text, "content": text}),
        "share": datasets.Value("float64"),
        "count": datasets.Value("int64"),
        "flag": datasets.Value("bool"),
    }
    features = datasets.Features({name: kinds[kind] for name, kind in columns.items()})
    tables = {
        split: datasets.Dataset.from_dict({name: [row[name] for row in rows] for name in columns}, features=features)
        for split, rows in splits.items()
    }
    datasets.DatasetDict(tables).save_to_disk(folder)


def _load(datasets: Any, path: Path, source: str, split: str | None) -> Any:
    if path.is_dir() and any((path / name).exists() for name in _SAVED_BY_DATASETS):
        found = datasets.load_from_disk(source)
        return found[split] if split and isinstance(found, dict) else found
    if path.is_dir():
        return datasets.load_dataset(source, split=split)
    if path.is_file() or path.suffix in _READERS:
        if path.suffix not in _READERS:
            raise ValueError(f"unknown file type: {path.suffix or path.name}")
        return datasets.load_dataset(_READERS[path.suffix], data_files=source, split=split)
    name, _, configuration = source.partition(":")
    return datasets.load_dataset(name, configuration or None, split=split)
