"""Labeling configurations are recognised by their tags; unusable ones are refused with the reason."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_studio_sdk.label_interface import LabelInterface

from ml_backend.errors import LabelConfigError
from ml_backend.labels.config import Field, LabelConfig, ListedAnswer, parse_label_config
from ml_backend.labels.predictions import live_prediction, pairwise_prediction, ranker_prediction
from training.data.types import Verdict

ROOT = Path(__file__).parents[4]
LIVE = (ROOT / "label_config.xml").read_text(encoding="utf-8")
PAIRWISE = (ROOT / "label_configs" / "pairwise.xml").read_text(encoding="utf-8")
RANKER = (ROOT / "label_configs" / "ranker.xml").read_text(encoding="utf-8")
VERDICTS = {verdict.value: verdict for verdict in Verdict}


def live_with(choices: str, areas: str = "") -> str:
    """A live config whose Choices and additional tags vary."""
    return f"""<View><Text name="q" value="$q"/><TextArea name="x" toName="q"/><TextArea name="y" toName="q"/>{areas}
      <Choices name="v" toName="q">{choices}</Choices></View>"""


def choices_of(*aliases: str) -> str:
    """Choices with these aliases."""
    return "".join(f'<Choice value="Choice {n}" alias="{alias}"/>' for n, alias in enumerate(aliases))


def test_our_own_configs_are_recognised() -> None:
    """The three files that come with the project name prompt, answers and verdict as documented."""
    prompt, answers = Field("prompt", "prompt"), (Field("answer1"), Field("answer2"))
    assert parse_label_config(LIVE) == LabelConfig("live", prompt, "verdict", answers, VERDICTS)
    answers = (Field("answer1", "answer1"), Field("answer2", "answer2"))
    assert parse_label_config(PAIRWISE) == LabelConfig("pairwise", prompt, "comparison", answers, {})
    assert parse_label_config(RANKER) == LabelConfig("ranker", prompt, "rank", (Field("answers", "items"),), {})


def test_tags_count_and_names_do_not() -> None:
    """Other names, other keys, tags in any case and a second question make no difference."""
    config = parse_label_config("""
      <View><Header value="Please compare"/>
        <text NAME="frage" value="$data.question"/>
        <Choices name="topic" toName="frage"><Choice value="cooking"/><Choice value="travel"/></Choices>
        <TextArea name="zwei" toName="frage"/><TextArea name="eins" toName="frage"/>
        <TextArea name="note" toName="frage" perRegion="true"/>
        <Choices name="urteil" toName="frage"><Choice value="zwei"/><Choice value="eins"/>
        <Choice value="Same"/></Choices></View>""")
    meanings = {"zwei": Verdict.ANSWER1, "eins": Verdict.ANSWER2, "Same": Verdict.TIE}
    answers = (Field("zwei"), Field("eins"))
    assert config == LabelConfig("live", Field("frage", "data.question"), "urteil", answers, meanings)


@pytest.mark.parametrize(
    ("stored", "verdict"),
    [
        ("Answer 1", Verdict.ANSWER1),
        ("left", Verdict.ANSWER1),
        ("RESPONSE_B", Verdict.ANSWER2),
        ("About the same", Verdict.TIE),
        ("both bad", Verdict.BOTH_BAD),
        ("neither", Verdict.BOTH_BAD),
    ],
)
def test_common_names_of_choices_are_understood(stored: str, verdict: Verdict) -> None:
    """Only letters and digits count, in any case."""
    config = parse_label_config(live_with(choices_of("answer1", "answer2", stored)))
    assert config.verdicts[stored] is verdict


@pytest.mark.parametrize("stored", ["answer", "not answer1", "better", "answer 12", "", "answer3", "no idea"])
def test_other_names_of_choices_mean_nothing(stored: str) -> None:
    """An unknown choice is not a verdict, whatever it looks like and wherever it is."""
    config = parse_label_config(live_with(choices_of("answer1", "answer2", stored)))
    assert stored not in config.verdicts


def test_a_choice_called_like_an_answer_means_that_answer() -> None:
    """If the cards' order differs from what their names suggest, the names decide."""
    xml = live_with(choices_of("Answer 1", "Answer 2")).replace('"x"', '"answer2"').replace('"y"', '"answer1"')
    config = parse_label_config(xml)
    assert config.answers == (Field("answer2"), Field("answer1"))
    assert config.verdicts == {"Answer 1": Verdict.ANSWER2, "Answer 2": Verdict.ANSWER1}


def test_of_several_verdicts_the_one_called_so_counts() -> None:
    """Two Choices that ask which answer is better are ambiguous unless one is named verdict."""
    other = f'<Choices name="kinder" toName="q">{choices_of("answer1", "answer2")}</Choices>'
    assert parse_label_config(live_with(choices_of("1", "2"), other).replace('"v"', '"verdict"')).control == "verdict"
    with pytest.raises(LabelConfigError, match="or more than one"):
        parse_label_config(live_with(choices_of("1", "2"), other))


def test_of_several_areas_those_called_like_answers_count() -> None:
    """A third TextArea for comments is recognised by its name; three with unknown names are refused."""
    comment = '<TextArea name="comment" toName="q"/>'
    named = live_with(choices_of("1", "2"), comment).replace('"x"', '"answer_a"').replace('"y"', '"answer_b"')
    assert parse_label_config(named).answers == (Field("answer_a"), Field("answer_b"))
    with pytest.raises(LabelConfigError, match="no Text has two TextAreas"):
        parse_label_config(live_with(choices_of("1", "2"), comment))


def test_the_prompt_of_a_pairwise_config_is_the_text_that_is_no_answer() -> None:
    """Of several other texts, the prompt is the one named prompt, else the first; a Header counts too."""
    pair = '<Pairwise name="p" toName="b,a"/><Text name="a" value="$x"/><Text name="b" value="$y"/>'
    head, task, asked = '<Header value="$h"/>', '<Text name="t" value="$task"/>', '<Text name="s" value="$Prompt"/>'
    assert parse_label_config(f"<View>{pair}{head}</View>").prompt == Field("", "h")
    assert parse_label_config(f"<View>{task}{pair}{head}</View>").prompt == Field("t", "task")
    config = parse_label_config(f"<View>{task}{asked}{pair}</View>")
    assert config.prompt == Field("s", "Prompt")
    assert config.answers == (Field("b", "y"), Field("a", "x"))


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        ("<View><Image name='i' value='$i'/></View>", "Image i"),
        ("<View/>", "no named tags"),
        ("", "isn't XML"),
        ("<View>", "isn't XML"),
        ("{}", "isn't XML"),
        ("\ud800", "isn't XML"),
        (live_with(choices_of("good", "bad")), "asks which answer is better"),
        (live_with(choices_of("answer1", "tie")), "asks which answer is better"),
        (live_with(choices_of("1", "2")).replace('<TextArea name="y" toName="q"/>', ""), "no Text has two TextAreas"),
        (live_with(choices_of("1", "2")).replace('value="$q"', 'value="How?"'), "doesn't show a text of the task"),
        (live_with(choices_of("1", "2")).replace('value="$q"', 'value="$q" valueType="url"'), "doesn't show a text"),
        ("<View><Pairwise name='p' toName='a,b'/><Text name='a' value='$a'/></View>", "a, b, not two Texts"),
        ("<View><Pairwise name='p' toName='a,a'/><Text name='a' value='$a'/></View>", "not two Texts"),
        (PAIRWISE.replace('<Text name="prompt" value="$prompt"/>', ""), "no Text shows the prompt"),
        ("<View><Text name='q' value='$q'/><Ranker name='r' toName='l'/></View>", "doesn't rank a List"),
        (RANKER.replace('toName="answers"/>', 'toName="answers"><Bucket name="b"/></Ranker>'), "Buckets"),
    ],
)
def test_configs_that_cannot_be_used_say_why(xml: str, words: str) -> None:
    """Each error says what was found and what to do."""
    with pytest.raises(LabelConfigError) as raised:
        parse_label_config(xml)
    assert words in str(raised.value)
    assert raised.value.remedy


@pytest.mark.parametrize(
    "prologue",
    [
        '<!DOCTYPE v [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;"><!ENTITY c "&b;&b;&b;">]>',
        '<!DOCTYPE v [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE v SYSTEM "http://127.0.0.1:9/v.dtd">',
        '<!DOCTYPE v [<!ENTITY % a SYSTEM "http://127.0.0.1:9/v.dtd"> %a;]>',
    ],
)
def test_entities_are_never_expanded(prologue: str) -> None:
    """Entity bombs, files and addresses are refused before anything is read."""
    with pytest.raises(LabelConfigError, match="declares entities or a document type"):
        parse_label_config(prologue + LIVE)


@given(st.text(alphabet="<>/=\"'& ViewTxtAraCoRnkPs$q1,", max_size=80))
def test_any_text_is_a_config_or_a_clear_error(xml: str) -> None:
    """Parsing never raises anything but LabelConfigError."""
    with suppress(LabelConfigError):
        parse_label_config(xml)


def test_texts_are_found_in_a_task() -> None:
    """Keys may be nested; a value that is absent, blank or not a string counts as missing."""
    assert Field("q", "a.b").text_in({"a": {"b": "x"}}) == "x"
    assert Field("q", "a[1].b").text_in({"a": [0, {"b": "x"}]}) == "x"
    for data in ({}, {"q": None}, {"q": " "}, {"q": 3}, {"q": ["x"]}, None, [], "q"):
        assert Field("q", "q").text_in(data) is None
    assert Field("q").text_in({"q": "x"}) is None


def test_answers_are_found_in_a_task() -> None:
    """A pairwise task gives both answers or none, a ranker's task the usable items."""
    pairwise, ranker = parse_label_config(PAIRWISE), parse_label_config(RANKER)
    assert pairwise.answers_of({"answer1": "a", "answer2": "b"}) == ("a", "b")
    assert pairwise.answers_of({"answer1": "a", "answer2": ""}) is None
    items = [{"id": 1, "body": "a", "model_version": "v1"}, {"id": "z", "body": "b"}, {"id": 2}, {"body": "c"}, "d"]
    assert ranker.items_of({"items": items}) == [ListedAnswer("1", "a", "v1"), ListedAnswer("z", "b")]
    assert ranker.items_of({"items": "a"}) == pairwise.items_of({"items": items}) == []
    assert ranker.answers_of({"answer1": "a", "answer2": "b"}) is None


def test_predictions_are_what_label_studio_accepts() -> None:
    """Label Studio's own validation accepts each shape; scores are probabilities and versions are strings."""
    live, pairwise, ranker = (parse_label_config(xml) for xml in (LIVE, PAIRWISE, RANKER))
    predictions = [
        (LIVE, live_prediction(live, "first\nline", "second", "rankloop-v7")),
        (PAIRWISE, pairwise_prediction(pairwise, "right", 0.75, "rankloop-v7")),
        (RANKER, ranker_prediction(ranker, ["b", "a"], 1.0, "rankloop-v7")),
    ]
    for xml, prediction in predictions:
        assert LabelInterface(xml).validate_prediction(prediction, return_errors=True) == []
        assert prediction["model_version"] == "rankloop-v7"


def test_answer_regions_carry_their_version_and_the_proposed_text() -> None:
    """The same answers give the same ids, the two sides different ones; the texts keep their order."""
    config = parse_label_config(LIVE)
    first, second = live_prediction(config, "same", "same", "rankloop-v7")["result"]
    assert live_prediction(config, "same", "same", "rankloop-v7")["result"] == [first, second]
    assert first["id"].startswith("rankloop-v7~a~")
    assert second["id"].startswith("rankloop-v7~b~")
    assert first["meta"] == {"version": "rankloop-v7", "proposed": "same"}
    assert (first["from_name"], second["from_name"], first["to_name"]) == ("answer1", "answer2", "prompt")


def test_impossible_predictions_are_refused() -> None:
    """Predictions that Label Studio would reject, or show as an error, are never created."""
    pairwise, ranker = parse_label_config(PAIRWISE), parse_label_config(RANKER)
    with pytest.raises(ValueError, match="left or right"):
        pairwise_prediction(pairwise, "both", 0.5, "v1")
    for score in (-0.1, 1.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="probability"):
            pairwise_prediction(pairwise, "left", score, "v1")
    with pytest.raises(ValueError, match="twice"):
        ranker_prediction(ranker, ["a", "a"], 0.5, "v1")
