"""Any input, from a labeling configuration to an export, quickly gives a result or a RankloopError."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from label_json import LIVE, PAIRWISE, RANKER, live, pair, ranking, task

from ml_backend.errors import LabelConfigError
from ml_backend.http.messages import PredictRequest, SetupRequest, WebhookRequest, parse_request
from ml_backend.labels.config import parse_label_config
from ml_backend.labels.fields import LabelConfig
from ml_backend.labels.infer import infer_label_config
from ml_backend.labels.judgements import judgements_from_export
from ml_backend.loop.dataset import _newest, export_preferences, read_export_file
from training.errors import DataError, RankloopError

QUICK_S = 5.0
CONFIGS = (LIVE, PAIRWISE, RANKER)
quietly = settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

names = st.sampled_from(
    ["", "prompt", "answer1", "answer2", "verdict", "comparison", "rank", "answers", "answer1,answer2", "ü", "a b", "0"]
)
keys = st.sampled_from(
    ["", "$", "$prompt", "$a.b[0]", "$answer1", "$items", "$[[]]", "$a[" + "9" * 50 + "]", "$.", "x"]
)
tags = st.sampled_from(
    ["View", "Text", "TextArea", "Choices", "Choice", "Pairwise", "Ranker", "List", "Bucket", "Header", "hypertext"]
)
attributes = st.fixed_dictionaries(
    {},
    optional={
        "name": names,
        "toName": names,
        "value": keys | st.sampled_from(["tie", "answer1", "left", "right"]),
        "alias": st.sampled_from(["answer1", "answer2", "tie", "both_bad", ""]),
        "valueType": st.sampled_from(["text", "url"]),
        "perRegion": st.sampled_from(["true", "false"]),
    },
)
elements = st.recursive(
    st.tuples(tags, attributes, st.just(())),
    lambda inner: st.tuples(tags, attributes, st.lists(inner, max_size=6).map(tuple)),
    max_leaves=25,
)

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
VALID = [
    live("answer1"),
    live("tie", 2, parent_prediction=50),
    pair("left"),
    ranking(["a", "b"]),
    task(live("answer2"), predictions=({"id": 50, "result": [], "model_version": "v1"},)),
    task(pair("right"), answer1="First.", answer2="Second."),
    task(ranking(["a", "b"]), items=[{"id": "a", "body": "First."}, {"id": "b", "body": "Second."}]),
]


def _xml(element: Any) -> str:
    tag, given_attributes, inner = element
    shown = "".join(f' {name}="{value}"' for name, value in given_attributes.items())
    return f"<{tag}{shown}>{''.join(_xml(child) for child in inner)}</{tag}>"


@st.composite
def bent(draw: st.DrawFn) -> Any:
    """Something valid in which a few values, anywhere, were replaced by arbitrary ones."""
    whole = json.loads(json.dumps(draw(st.sampled_from(VALID))))
    for _ in range(draw(st.integers(1, 4))):
        place: Any = whole
        while True:
            inside = list(place.items()) if isinstance(place, dict) else list(enumerate(place))
            if not inside:
                break
            key, value = draw(st.sampled_from(inside))
            if not isinstance(value, dict | list) or draw(st.integers(0, 4)) == 0:
                place[key] = draw(values)
                break
            place = value
    return whole


annotations = bent() | values
tasks = st.lists(
    bent() | values | st.fixed_dictionaries({"data": values, "annotations": st.lists(annotations, max_size=3)},
        optional={"id": values, "project": values, "predictions": values}), max_size=3,
)  # fmt: skip


@quietly
@given(elements.map(_xml))
def test_any_tags_are_a_config_or_an_error(xml: str) -> None:
    """A configuration made of the tags we know, in any order and nesting, is understood or refused."""
    _parse(xml)


@quietly
@given(st.text() | st.text(alphabet="<>&;!\"'=/ ab$[]-?", max_size=60))
@example("\ud800<View/>")
@example("<View>\x00</View>")
@example("<?xml version='1.0' encoding='utf-7'?><View/>")
@example("<?xml version='1.0' encoding='nonsense'?><View/>")
@example("&amp;")
def test_any_text_is_a_config_or_an_error(text: str) -> None:
    """No text raises any other error."""
    _parse(text)


def _parse(xml: str) -> LabelConfig | None:
    try:
        return parse_label_config(xml)
    except LabelConfigError:
        return None


def _deep(levels: int) -> str:
    return "<View>" * levels + "</View>" * levels


@pytest.mark.parametrize(
    "xml",
    [
        _deep(100_000),
        "<View>" + '<Choices name="v" toName="q">' * 5000 + "</Choices>" * 5000
        + '<Text name="q" value="$q"/><TextArea name="a" toName="q"/><TextArea name="b" toName="q"/></View>',
        "<View>" + "".join(f'<Text name="t{n}" value="$t"/>' for n in range(20_000))
        + "".join(f'<TextArea name="a{n}" toName="x{n}"/>' for n in range(20_000)) + '<Choices name="c"/></View>',
        '<View><Text name="prompt" value="$' + "a" * 900_000 + '"/></View>',
        "<View " + " ".join(f'a{n}="1"' for n in range(60_000)) + "/>",
        "x" * 5_000_000,
    ],
    ids=["deep", "nested choices", "many areas", "long key", "many attributes", "huge"],
)  # fmt: skip
def test_a_config_built_to_take_long_does_not(xml: str) -> None:
    """Depth, number and length are limited, so that no configuration can stall a request."""
    began = time.monotonic()
    _parse(xml)
    assert time.monotonic() - began < QUICK_S


@quietly
@given(tasks, st.sampled_from(CONFIGS))
def test_any_export_is_converted_or_refused(found: list[Any], config: LabelConfig) -> None:
    """Every annotation is counted exactly once, whatever it contains."""
    try:
        judgements, summary = judgements_from_export(found, config, 3)
    except DataError:
        return
    assert summary.annotations == summary.kept + summary.skipped + sum(summary.dropped.values())
    assert all(judgement.answer1.text or judgement.answer2.text for judgement in judgements)


@quietly
@given(found=tasks)
@example(found=[{"annotations": [{"result": [{"type": [], "from_name": "", "to_name": ""}]}]}])
def test_any_export_without_a_config_is_written_or_refused(found: list[Any], tmp_path: Path) -> None:
    """The configuration is inferred, and the result is a readable file."""
    try:
        infer_label_config(found)
        export_preferences(found, tmp_path / "out.jsonl")
    except RankloopError:
        return
    if not (tmp_path / "out.jsonl").exists():
        return
    for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines():
        assert json.loads(line)["chosen"]


@quietly
@given(st.lists(values | st.sampled_from(["2026-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "2026-01-01"])))
def test_any_moment_is_read_or_passed_over(moments: list[Any]) -> None:
    """A snapshot's time is that of its newest annotation with a readable time."""
    newest = _newest([{"annotations": [{"updated_at": moment} for moment in moments]}])
    assert (newest is not None) == any(moment in ("2026-01-01T00:00:00Z", "2026-01-01") for moment in moments)


@quietly
@given(content=st.binary(max_size=80) | values.map(lambda value: json.dumps(value).encode()))
@example(content=b"[" * 100_000)
@example(content=b"9" * 10_000)
@example(content=b"[NaN]")
def test_any_file_is_an_export_or_an_error(content: bytes, tmp_path: Path) -> None:
    """A file that isn't an export is refused with an explanation."""
    (tmp_path / "export.json").write_bytes(content)
    with suppress(DataError):
        assert isinstance(read_export_file(tmp_path / "export.json"), list)


@quietly
@given(
    st.sampled_from([SetupRequest, PredictRequest, WebhookRequest]),
    values
    | st.fixed_dictionaries(
        {},
        optional={
            "action": values,
            "tasks": values | st.lists(annotations),
            "project": values | st.fixed_dictionaries({"id": values}),
            "label_config": values,
            "schema": values,
            "params": values | st.fixed_dictionaries({"context": values}),
            "extra_params": values,
        },
    ),
)
def test_any_body_is_a_request_or_an_error(schema: Any, body: Any) -> None:
    """A request's body is understood or refused with an explanation."""
    with suppress(DataError):
        assert isinstance(parse_request(schema, body), schema)
