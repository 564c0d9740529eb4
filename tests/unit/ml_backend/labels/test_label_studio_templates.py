"""What Label Studio's own templates for ranking, comparing and chatting are like: accepted, or told what to change."""

from __future__ import annotations

import pytest

from ml_backend.errors import LabelConfigError
from ml_backend.labels.config import parse_label_config

ACCEPTED = {
    "human feedback collection": (
        """<View className="root"><View className="prompt"><Text name="prompt" value="$prompt"/></View>
        <View className="answers"><Pairwise name="comparison" toName="answer1,answer2" selectionStyle="border: 1px"/>
        <Text name="answer1" value="$answer1"/><Text name="answer2" value="$answer2"/></View></View>""",
        "pairwise",
        ["prompt"],
    ),
    "pairwise classification": (
        """<View><Header>Pick one</Header><Pairwise name="pw" toName="one,two"/><Text name="one" value="$pairOne"/>
        <Text name="two" value="$pairTwo"/></View>""",
        "pairwise",
        [],
    ),
    "visual ranker": (
        """<View><Text name="prompt" value="$prompt"/><List name="results" value="$results" title="All"/>
        <Ranker name="rank" toName="results"></Ranker></View>""",
        "ranker",
        ["prompt"],
    ),
    "llm ranker without its buckets": (
        """<View><Header value="Task: "/><Text name="task" value="$task"/><Header value="Prompt: "/>
        <Text name="prompt" value="$prompt"/><List name="answers" value="$items"/><Ranker name="rank" toName="answers"/>
        </View>""",
        "ranker",
        ["prompt"],
    ),
}
YES_NO = '<Choice value="Yes"/><Choice value="No"/>'
REFUSED = {
    "llm ranker": (
        """<View><Text name="task" value="$task"/><Text name="prompt" value="$prompt"/>
        <List name="answers" value="$items"/><Ranker name="rank" toName="answers">
        <Bucket name="fitting" title="Fitting"/><Bucket name="unfair" title="Unfair"/></Ranker></View>""",
        "Remove the Buckets, or give them names that say which is better",
    ),
    "chatbot assessment": (
        f"""<View><Paragraphs name="talk" value="$messages" layout="dialogue" nameKey="role" textKey="content"/>
        <Rating name="scale" maxRating="7"/><Choices name="fails" toName="talk">{YES_NO}</Choices></View>""",
        "compare two answers: start from label_config.xml",
    ),
    "response grading": (
        """<View><Text name="long" value="$document"/><Text name="short" value="$summary"/>
        <Rating name="rating" toName="short" required="true"/></View>""",
        "rates single texts",
    ),
    "supervised llm": (
        """<View><Text name="prompt" value="$prompt"/><TextArea name="instruction" toName="prompt" rows="9"/></View>""",
        "add a second TextArea and a Choices",
    ),
    "response generation": (
        """<View><Paragraphs name="chat" value="$dialogue" layout="dialogue"/>
        <TextArea name="response" toName="chat" maxSubmissions="1"/></View>""",
        "add a second TextArea and a Choices",
    ),
    "response selection": (
        """<View><Paragraphs name="p" value="$talk"/><Text name="r1" value="$first"/><Text name="r2" value="$second"/>
        <Text name="r3" value="$third"/><Choices name="r" toName="p"><Choice value="One"/><Choice value="Two"/>
        <Choice value="Three"/></Choices></View>""",
        "rank them with a Ranker",
    ),
    "document retrieval": (
        """<View><Text name="query" value="$query"/><Text name="text1" value="$text1"/><Text name="text2"
        value="$text2"/><Text name="text3" value="$text3"/><Choices name="picked" toName="query" choice="multiple">
        <Choice value="One"/><Choice value="Two"/></Choices></View>""",
        "rank them with a Ranker",
    ),
    "search results": (
        """<View><Text name="text" value="$text"/><Choices name="found" toName="text" value="$options"
        choice="multiple"/><Rating name="relevance" toName="text"/></View>""",
        "Show the answers in a List and rank them with a Ranker",
    ),
    "text to image": (
        """<View><Text name="prompt" value="$prompt"/><Choices name="images" toName="prompt" value="$images"/>
        </View>""",
        "Show the answers in a List and rank them with a Ranker",
    ),
    "pairwise regression": (
        """<View><Rating name="rating" toName="one,two"/><Image name="one" value="$a"/><Image name="two" value="$b"/>
        </View>""",
        "only texts can be compared",
    ),
    "chat evaluation": (
        """<View><Text name="instructions" value="$text"/><Chat name="chat" value="$chat" toName="chat"/></View>""",
        "a Chat written or judged by itself",
    ),
    "chat for a language model": (
        f"""<View><Text name="instructions" value="$text"/><Chat name="chat" value="$chat" llm="some/model"/>
        <Choices name="answered" toName="chat">{YES_NO}</Choices><TextArea name="comments" toName="chat"/></View>""",
        "two TextAreas for the answers and a Choices that asks which is better",
    ),
    "chat red teaming": (
        f"""<View><Chat name="chat" value="$chat"/>
        <Choices name="risk" toName="chat" perRegion="true">{YES_NO}</Choices></View>""",
        "a Chat written or judged by itself",
    ),
    "chat feedback": (
        """<View><Chat name="chat" value="$chat"/><Rating name="rating" toName="chat"/><Text name="hint"
        value="Say why"/><TextArea name="comment" toName="chat"/></View>""",
        "compare two answers: start from label_config.xml",
    ),
    "chatbot": (
        f"""<View><Chat name="chat" value="$chat"/><Rating name="accuracy" toName="chat" perRegion="true"/>
        <Choices name="right" toName="chat" perRegion="true">{YES_NO}</Choices></View>""",
        "a Chat written or judged by itself",
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_templates_that_compare_texts_are_accepted(name: str) -> None:
    """Kind and prompt follow from the tags."""
    xml, kind, prompts = ACCEPTED[name]
    config = parse_label_config(xml)
    assert (config.kind, [field.key for field in config.prompts]) == (kind, prompts)


@pytest.mark.parametrize("name", REFUSED)
def test_other_templates_are_refused_with_what_to_change(name: str) -> None:
    """The same error appears in `rankloop init-project` and when Label Studio connects the backend."""
    xml, words = REFUSED[name]
    with pytest.raises(LabelConfigError) as raised:
        parse_label_config(xml)
    assert words in str(raised.value)
    assert raised.value.remedy
