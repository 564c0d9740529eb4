"""The page of a version: figures, lineage, gates, answers and charts, against values worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

from page_fakes import EXAMPLE, PageRegistry, report
from page_reader import Reader

from ml_backend.registry.records import Fate
from training.evaluation import Example

THIRD = "/versions/rankloop.eggs-v3"
SECOND = "/versions/rankloop.eggs-v2"


def test_figures_and_sentences(reader: Reader) -> None:
    """The same as in the line's table, and what the reports say in words."""
    shown = reader.text(THIRD)
    assert "Accuracy of its reward model 72% 63% to 80%" in shown
    assert "KL from the base 2.25 nats" in shown
    assert "People prefer it to the base not enough votes to tell" in shown
    assert "Length of answers 23.4 tokens, the base’s 26" in shown
    assert "Annotations 120" in shown
    assert "Judgements 118" in shown
    assert "Preferences 80" in shown
    assert "The policy doesn't earn its KL." in shown
    assert "Accuracy on 100 pairs that it didn't learn from: 72% (95% interval 63% to 80%)." in shown
    assert "Two people choose the same answer on 81% of pairs." in shown


def test_where_it_comes_from(reader: Reader) -> None:
    """Its parents back to the base, its children, and why the gates let it pass."""
    assert "Trained from rankloop.eggs-v2 , which comes from rankloop.eggs-v1" in reader.text(THIRD)
    shown = reader.text(SECOND)
    assert "Others come from it rankloop.eggs-v3" in shown
    assert "Gate: reward model The reward model ranks 72% correctly." in shown
    assert "Gate: policy It beats the champion." in shown
    assert "cycle-7-2 , promoted. rankloop.eggs-v2 is champion." in shown


def test_what_became_of_a_challenger(reader: Reader, page_registry: PageRegistry) -> None:
    """Its contest is over; people's verdicts rejected it, and the version keeps why."""
    fate = Fate("rejected", "It won 9 of 30 pairs.", "rankloop.eggs-v2", "2026-09-22T10:00:00+00:00")
    page_registry.known["eggs"][2].tags["contest"] = fate.as_tag()  # type: ignore[index]
    said = "Its contest with rankloop.eggs-v2 is over: rejected. It won 9 of 30 pairs."
    assert said in reader.text(THIRD)


def test_answers_stand_side_by_side(reader: Reader) -> None:
    """Of the base, of the champion it was trained to beat, and its own, to the same prompt."""
    shown = reader.text(THIRD)
    sides = (
        "Prompt 1 How do I boil an egg? Base Boil it. Score -0.50 rankloop.eggs-v2, the champion then "
        "Boil it for six minutes. Score 0.25 rankloop.eggs-v3 Boil it gently. Score 1.50"
    )
    assert sides in shown


def test_many_answers_come_in_parts(reader: Reader, page_registry: PageRegistry) -> None:
    """Of twelve prompts, a page shows five; an answer without text says so."""
    examples = [Example(f"Prompt {n}?", "", "b", "c", 0.0, 0.0, 0.0) for n in range(12)]
    page_registry.reports["rankloop.eggs-v3"] = report(*examples)
    shown = reader.text(f"{THIRD}?answers=3")
    assert "Prompt 11 Prompt 10? Base (nothing)" in shown
    assert "11 to 12 of 12" in shown


def test_a_report_of_an_earlier_release_has_no_answers(reader: Reader, page_registry: PageRegistry) -> None:
    """The page says why, and has the rest."""
    old = report(EXAMPLE)
    del old["ppo"]["examples"]
    page_registry.reports["rankloop.eggs-v3"] = old
    assert "Its report holds no answers" in reader.text(THIRD)


def test_the_base_has_little_to_say(reader: Reader) -> None:
    """No figures, no curves, nothing to compare with."""
    shown = reader.text("/versions/rankloop.eggs-v1")
    assert "This is the base model, as it was before anybody judged its answers." in shown
    assert "Trained from nothing before it" in shown
    assert "The base has nothing before it to compare with." in shown
    assert "Curves" not in shown


def test_curves_have_their_numbers_beside_them(reader: Reader) -> None:
    """Best-of-n and the policy over KL, and rewards by iteration."""
    shown = reader.text(THIRD)
    frontier = "KL from the base, nats best of n of the base this version 0 50% – 0.19 58% – 0.64 66% – 1.50 – 61%"
    assert frontier in shown
    assert "iteration mean reward 1 0 2 0.25 3 0.50" in shown
    assert "epoch training validation 0 0.60 0.62 1 0.50 0.61" in shown


def test_links_lead_to_what_is_known(make_reader: Callable[..., Reader]) -> None:
    """MLflow's run only where MLflow is a server, without its password; else how to see it."""
    assert "rankloop mlflow" in make_reader().text(THIRD)
    served = make_reader(mlflow_tracking_uri="http://me:secret@mlflow:5000/")
    page = served.get(THIRD).text
    assert 'href="http://mlflow:5000/#/experiments/1/runs/run3"' in page
    assert "secret" not in page
    chosen = make_reader(mlflow_tracking_uri="http://mlflow:5000", mlflow_page_url="https://see.example/mlflow")
    assert 'href="https://see.example/mlflow/#/experiments/1/runs/run3"' in chosen.get(THIRD).text
    there = make_reader(label_studio_page_url="https://labels.example/")
    assert 'href="https://labels.example/projects/7/data"' in there.get("/lines/eggs").text


def test_a_pruned_version_cannot_be_promoted(reader: Reader, page_registry: PageRegistry) -> None:
    """The page says so instead of offering it."""
    page_registry.known["eggs"][2].tags["pruned_at"] = "2026-09-22T10:00:00+00:00"  # type: ignore[index]
    shown = reader.text(THIRD)
    assert "Its weights were pruned, so it can’t be promoted any more." in shown
    assert f"{THIRD}/promote" not in reader.get(THIRD).text
