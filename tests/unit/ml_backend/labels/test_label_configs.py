"""Labeling configurations are recognised by their tags; unusable ones are refused with the reason."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_studio_sdk.label_interface import LabelInterface

from ml_backend.errors import LabelConfigError
from ml_backend.labels.config import parse_label_config, with_prompt_fields
from ml_backend.labels.fields import Field, LabelConfig, ListedAnswer
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


def buckets(*names: str) -> str:
    """A ranker with Buckets."""
    inside = "".join(f'<Bucket name="{name}"/>' for name in names)
    return RANKER.replace('toName="answers"/>', f'toName="answers">{inside}</Ranker>')


def test_our_own_configs_are_recognised() -> None:
    """The three files that come with the project name prompt, answers and verdict as documented."""
    prompts, answers = (Field("prompt", "prompt"),), (Field("answer1"), Field("answer2"))
    keys = ("prompt", "answer1", "answer2")
    live = LabelConfig("live", prompts, "verdict", answers, VERDICTS, "prompt", keys=("prompt",))
    assert parse_label_config(LIVE) == live
    answers = (Field("answer1", "answer1"), Field("answer2", "answer2"))
    pairwise = LabelConfig("pairwise", prompts, "comparison", answers, {}, "answer1", keys=keys)
    assert parse_label_config(PAIRWISE) == pairwise
    ranker = LabelConfig(
        "ranker", prompts, "rank", (Field("answers", "items"),), {}, "answers", keys=("prompt", "items")
    )
    assert parse_label_config(RANKER) == ranker


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
    prompts = (Field("frage", "data.question"),)
    assert config == LabelConfig("live", prompts, "urteil", answers, meanings, "frage", keys=("data.question",))


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


@pytest.mark.parametrize("stored", ["answer", "not answer1", "better", "answer 12", "", "no idea"])
def test_other_names_of_choices_mean_nothing(stored: str) -> None:
    """An unknown choice is not a verdict, whatever it looks like and wherever it is."""
    config = parse_label_config(live_with(choices_of("answer1", "answer2", stored)))
    assert stored not in config.verdicts


def test_a_choice_called_like_an_answer_means_that_answer() -> None:
    """If the cards' order differs from what their names suggest, the names decide."""
    xml = live_with(choices_of("Answer 1", "Answer 2")).replace('"x"', '"answer2"').replace('"y"', '"answer1"')
    config = parse_label_config(xml)
    assert config.answers == (Field("answer1"), Field("answer2"))
    assert config.verdicts == {"Answer 1": Verdict.ANSWER1, "Answer 2": Verdict.ANSWER2}
    with pytest.raises(LabelConfigError, match="left and right are unclear"):
        parse_label_config(xml.replace('"Answer 1"', '"left"').replace('"Answer 2"', '"right"'))


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


PAIR = '<Pairwise name="p" toName="b,a"/><Text name="a" value="$x"/><Text name="b" value="$y"/>'
HEAD, TASK = '<Header value="Question: $h"/>', '<Text name="t" value="$task"/>'
SYSTEM, ASKED = '<Text name="s" value="$system"/>', '<Text name="p1" value="$Prompt"/>'


def test_the_only_text_beside_the_answers_is_the_prompt() -> None:
    """A Header counts too, whatever else it says; without any text, the prompt is empty."""
    assert parse_label_config(f"<View>{PAIR}{HEAD}</View>").prompts == (Field("", "h"),)
    config = parse_label_config(f"<View>{TASK}{PAIR}</View>")
    assert (config.prompts, config.answers) == ((Field("t", "task"),), (Field("b", "y"), Field("a", "x")))
    bare = parse_label_config(f"<View>{PAIR}</View>")
    assert (bare.prompts, bare.prompt_of({"x": "a", "y": "b"})) == ((), "")


def test_of_several_texts_somebody_says_which_is_the_prompt() -> None:
    """The first alone is never taken; a text named prompt is, unless a system text or a question stands beside it."""
    for shown in (HEAD + TASK, SYSTEM + TASK, SYSTEM + ASKED):
        with pytest.raises(LabelConfigError, match="several texts could be the prompt") as raised:
            parse_label_config(f"<View>{shown}{PAIR}</View>")
        assert "--prompt-field" in str(raised.value)
    assert parse_label_config(f"<View>{TASK}{ASKED}{PAIR}</View>").prompt_key == "Prompt"
    xml = f"<View>{SYSTEM}{ASKED}{TASK}{PAIR}</View>"
    assert parse_label_config(xml, ["task"]).prompt_key == "task"
    both = parse_label_config(xml, ["s", "Prompt"])
    assert both.prompt_of({"system": "Be brief.", "Prompt": "Why?", "task": "Choose."}) == "Be brief.\n\nWhy?"
    with pytest.raises(LabelConfigError, match="no text of the task is called 'banana'"):
        parse_label_config(xml, ["banana"])


def test_the_config_itself_can_note_which_text_is_the_prompt() -> None:
    """A comment tells everyone who reads the config; a second note replaces the first."""
    xml = f"<View>{SYSTEM}{ASKED}{PAIR}</View>"
    noted = with_prompt_fields(xml, ["s", "p1"])
    assert [field.key for field in parse_label_config(noted).prompts] == ["system", "Prompt"]
    again = with_prompt_fields(noted, ["p1"])
    assert parse_label_config(again).prompt_key == "Prompt"
    assert again.count("rankloop:") == 1
    with pytest.raises(LabelConfigError, match="no text of the task is called"):
        with_prompt_fields(xml, ["banana"])


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
        (live_with(choices_of("1", "2", "3")), "beyond two answers"),
        ("<View><Text name='q' value='$q'/><Ranker name='r' toName='l'/></View>", "doesn't rank a List"),
        (buckets("relevant", "biased"), "2 Buckets (relevant, biased) whose order isn't known"),
        (buckets("group_1", "group_2"), "whose order isn't known"),
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
    """Keys may be nested; numbers and booleans are read as Label Studio shows them, a blank as one."""
    assert Field("q", "a.b").text_in({"a": {"b": "x"}}) == "x"
    assert Field("q", "a[1].b").text_in({"a": [0, {"b": "x"}]}) == "x"
    for data in ({}, {"q": None}, {"q": ["x"]}, {"q": {}}, None, [], "q"):
        assert Field("q", "q").text_in(data) is None
    for value, shown in ((True, "true"), (2024, "2024"), (3.0, "3"), (0.5, "0.5"), (" ", " ")):
        assert Field("q", "q").text_in({"q": value}) == shown
    assert Field("q").text_in({"q": "x"}) is None


def test_answers_are_found_in_a_task() -> None:
    """A pairwise task gives both answers or none, a ranker's task the usable items."""
    pairwise, ranker = parse_label_config(PAIRWISE), parse_label_config(RANKER)
    assert pairwise.answers_of({"answer1": "a", "answer2": "b"}) == ("a", "b")
    assert pairwise.answers_of({"answer1": "a", "answer2": ""}) == ("a", "")
    assert pairwise.answers_of({"answer1": "a"}) is None
    items = [{"id": 1, "body": "a", "model_version": "v1"}, {"id": "z", "body": "b"}, {"id": 2}, {"body": "c"}, "d"]
    assert ranker.items_of({"items": items}) == [ListedAnswer("1", "a", "v1"), ListedAnswer("z", "b")]
    assert ranker.items_of({"items": "a"}) == pairwise.items_of({"items": items}) == []
    assert ranker.answers_of({"answer1": "a", "answer2": "b"}) is None


def test_predictions_are_what_label_studio_accepts() -> None:
    """Label Studio's own validation accepts each shape; scores are probabilities and versions are strings."""
    live, pairwise, ranker = (parse_label_config(xml) for xml in (LIVE, PAIRWISE, RANKER))
    both = """<View><Text name="p" value="$prompt"/><Text name="answer1" value="$a"/><Text name="answer2" value="$b"/>
      <Choices name="c" toName="p"><Choice value="First"/><Choice value="Second" alias="2"/></Choices></View>"""
    predictions = [
        (both, pairwise_prediction(parse_label_config(both), "left", 0.75, "rankloop-v7")),
        (LIVE, live_prediction(live, "first\nline", "second", "rankloop-v7")),
        (PAIRWISE, pairwise_prediction(pairwise, "right", 0.75, "rankloop-v7")),
        (RANKER, ranker_prediction(ranker, ["b", "a"], 1.0, "rankloop-v7")),
    ]
    for xml, prediction in predictions:
        assert LabelInterface(xml).validate_prediction(prediction, return_errors=True) == []
        assert prediction["model_version"] == "rankloop-v7"


def test_a_choice_is_preselected_by_what_label_studio_stores() -> None:
    """Its alias, else its value."""
    config = parse_label_config("""<View><Text name="p" value="$prompt"/><Text name="a" value="$answer1"/>
      <Text name="b" value="$answer2"/><Choices name="c" toName="p"><Choice value="First" alias="one"/>
      <Choice value="Second"/></Choices></View>""")
    for side, stored in (("left", "one"), ("right", "Second")):
        (region,) = pairwise_prediction(config, side, 0.75, "v1")["result"]  # type: ignore[arg-type]
        assert region["value"] == {"choices": [stored]}
        assert (region["type"], region["from_name"], region["to_name"]) == ("choices", "c", "p")


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


@pytest.mark.parametrize("xml", [LIVE, PAIRWISE, RANKER], ids=["live", "pairwise", "ranker"])
def test_a_pages_looks_survive_label_studio(xml: str) -> None:
    """Label Studio escapes `>`, `<` and `&` in Style, and browsers drop the rule. All rules are for our page alone."""
    style = xml.partition("<Style>")[2].partition("</Style>")[0]
    assert not set(style) & set("<>&")
    rules = [line.strip() for line in style.splitlines() if line.rstrip().endswith(("{", "}")) and "{" in line]
    selectors = [rule.partition("{")[0] for rule in rules if not rule.startswith("@")]
    assert selectors
    assert all(".rankloop" in selector for selector in selectors)
