"""Every figure on the pages of a line and of the loop, against values worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from page_fakes import BORN, CONTEST, LEADERBOARD, PEOPLE, RUNNING, PageJobs, PageRegistry, version
from page_reader import Reader

from ml_backend.page.facts import LineFacts
from ml_backend.page.line_view import view_line
from ml_backend.page.opinions import read_opinions
from ml_backend.page.status_view import CycleNow, missing_worker


def test_the_loop_says_what_it_waits_for(reader: Reader) -> None:
    """41 of 50 judgements are there, so 9 are missing."""
    shown = reader.text("/")
    assert "9 more judgements until training: 41 of 50 are there." in shown
    assert "Champion rankloop.eggs-v2 Project 7" in shown
    assert '<progress max="50" value="41"' in reader.get("/").text


@pytest.mark.parametrize(
    ("new", "said"),
    [(49, "1 more judgement until training: 49 of 50"), (50, "50 new judgements: training starts soon.")],
)
def test_the_last_judgements_are_counted_well(reader: Reader, page_jobs: PageJobs, new: int, said: str) -> None:
    """One is singular, and none are missing at last."""
    page_jobs.new = new
    assert said in reader.text("/lines/eggs")


def test_a_running_cycle_shows_its_step(reader: Reader, page_jobs: PageJobs) -> None:
    """PPO has done 3 of its 12 iterations."""
    page_jobs.cycle = RUNNING
    shown = reader.text("/lines/eggs")
    assert "A training cycle runs: training the policy." in shown
    assert "Training the policy : 3 of 12" in shown
    assert '<progress max="12" value="3" aria-label="Training the policy">' in reader.get("/lines/eggs").text
    assert "Train now" not in shown
    assert "Cancel cycle-7-5" in shown


def test_a_queued_cycle_is_said(reader: Reader, page_jobs: PageJobs) -> None:
    """It has no progress yet."""
    page_jobs.cycle = replace(RUNNING, state="queued", step=None, done=None, total=None)
    assert "A training cycle is queued." in reader.text("/")
    assert "<progress" not in reader.get("/").text


def test_a_paused_line_offers_to_go_on(reader: Reader, page_registry: PageRegistry) -> None:
    """It says since when, and what still happens."""
    page_registry.paused["eggs"] = "2026-09-22T10:00:00+00:00"
    shown = reader.text("/lines/eggs")
    assert "Paused: judgements count, but no cycle starts by itself." in shown
    assert "Resume" in shown
    assert "2026-09-22T10:00:00+00:00" in reader.get("/lines/eggs").text


def test_a_failed_cycle_says_why(reader: Reader, page_jobs: PageJobs) -> None:
    """With the error's own remedy, until another one has ended."""
    page_jobs.cycle = replace(RUNNING, state="failed", step=None, reason="No space left. Free some.")
    for path in ("/", "/lines/eggs"):
        assert "The last cycle, begun on 22 September 2026 : failed . No space left. Free some." in reader.text(path)


def test_versions_have_their_figures(reader: Reader) -> None:
    """The newest first; the base has none, and the champion says since when."""
    shown = reader.text("/lines/eggs")
    table = shown.partition("Champion since")[2]
    assert table.index("rankloop.eggs-v3") < table.index("rankloop.eggs-v2 champion") < table.index("eggs-v1 base")
    third = "rankloop.eggs-v3 72% 63% to 80% 81% 2.25 – 61% 52% to 70% 23.4 base 26 120 never"
    assert third in table
    assert "rankloop.eggs-v1 base – – – – – – – never" in table
    assert "2026-09-21T16:13:20+00:00" in reader.get("/lines/eggs").text  # when the cycle that promoted v2 ended


def test_accuracy_stands_beside_what_bounds_it(reader: Reader) -> None:
    """Before anybody has looked at the judgements, the agreement is that of the champion's report."""
    shown = reader.text("/lines/eggs")
    assert "ranks 72% of pairs correctly; two people choose the same answer on 81% of pairs" in shown


def test_agreement_of_today_replaces_that_of_the_report(reader: Reader, page_registry: PageRegistry) -> None:
    """What people's judgements say now is newer."""
    page_registry.said["eggs"] = {"people": {**PEOPLE, "pairwise": 0.79}}
    assert "two people choose the same answer on 79% of pairs" in reader.text("/lines/eggs")


def test_preference_comes_from_the_leaderboard() -> None:
    """Log-odds of ln 3 over the base are 3 in 4; the ends ln 1.5 and ln 6 are 3 in 5 and 6 in 7."""
    base, second = version(1), version(2, "rankloop.eggs-v1")
    entry = {"version": second.name, "strength": 1.0986122886681098, "interval": [0.4054651081, 1.791759469]}
    view = view_line(
        "eggs", LineFacts((base, second), (base.name,), (), read_opinions({"leaderboard": {"versions": [entry]}}))
    )
    row = view.versions[0]
    assert row.preferred == pytest.approx(0.75)
    assert row.preferred_interval == pytest.approx((0.6, 6 / 7))
    assert view.versions[1].preferred is None


def test_a_line_shows_what_its_newest_learned(reader: Reader) -> None:
    """The champion's report in words, and its answers."""
    shown = reader.text("/lines/eggs")
    assert "What rankloop.eggs-v2 learned" in shown
    assert "The policy doesn't earn its KL." in shown


def test_the_challenger_s_answers_stand_beside_the_champion_s(reader: Reader, page_registry: PageRegistry) -> None:
    """And beside the base's, to the same prompt."""
    page_registry.challenge("eggs", 3)
    shown = reader.text("/lines/eggs")
    assert "What rankloop.eggs-v3 learned" in shown
    assert "Base Boil it. Score -0.50 rankloop.eggs-v2, the champion then Boil it for six minutes." in shown


def test_contest_and_leaderboard_are_shown(reader: Reader, page_registry: PageRegistry) -> None:
    """The challenger won 18 pairs of 30; who leads, and how few votes would turn that."""
    page_registry.said["eggs"] = {"contest": CONTEST, "leaderboard": LEADERBOARD}
    page_registry.challenge("eggs", 3)
    shown = reader.text("/lines/eggs")
    assert "Not enough votes to tell: about 40 more pairs are needed." in shown
    assert "30: the challenger won 18 and lost 9, 3 ties; 42 votes" in shown
    assert "People prefer the challenger 65% 44% to 83%" in shown
    assert "Still needed about 40 pairs" in shown
    assert "7 other votes would turn the first place." in shown
    assert "1 rankloop.eggs-v3 1.10 0.41 to 1.79 0.80 0.10 to 1.50 30 42" in shown
    assert "2 rankloop.eggs-v2 0.41 -0.41 to 1.22 – 60 80" in shown
    assert "rankloop.eggs-v3 challenger 72% 63% to 80% 81% 2.25 75% 60% to 86%" in shown


def test_people_are_shown_with_what_there_is_to_know(reader: Reader, page_registry: PageRegistry) -> None:
    """Alpha and agreement with intervals; each person's figures, and warnings in words."""
    page_registry.said["eggs"] = {"people": PEOPLE}
    shown = reader.text("/lines/eggs")
    assert "120 judgements on 80 pairs, 40 of them judged by two or more people" in shown
    assert "Two people agree 81% 72% to 88%" in shown
    assert "Krippendorff’s alpha 0.61 0.48 to 0.74" in shown
    assert "Two people agree on fewer pairs than last week." in shown
    ann = "ann@example.org – 60 90% 79% to 96% 75% 61% to 85% 50% 37% to 63% 10% 14.2 0% 100% 5 pairs twice"
    left = (
        "left@example.org Chose the left answer in 60 of 60 judgements. "
        "60 52% 37% to 67% – 100% 94% to 100% 0% 1.50 25% –"
    )
    assert ann in shown
    assert left in shown
    assert "120 judgements by 2 people" in reader.text("/")


def test_documents_of_other_releases_are_shown_as_far_as_they_go(reader: Reader, page_registry: PageRegistry) -> None:
    """Whatever they lack is a dash, and nothing fails."""
    page_registry.said["eggs"] = {
        "people": {"judgements": 3, "people": [{"annotator": "ann", "new": 1}]},
        "contest": {"sentence": "Soon."},
        "leaderboard": {"versions": [{"version": "rankloop.eggs-v2"}]},
    }
    shown = reader.text("/lines/eggs")
    assert "ann – 0 – – – – – – –" in shown
    assert "Soon." in shown
    assert "1 rankloop.eggs-v2 – – 0 0" in shown


def test_cycles_say_how_they_ended(reader: Reader) -> None:
    """With the reason, in the words of whoever ended it."""
    shown = reader.text("/lines/eggs")
    assert "rejected Not enough held-out prompts to tell." in shown
    assert "promoted rankloop.eggs-v2 is champion." in shown


def test_long_lists_come_in_parts(reader: Reader, page_registry: PageRegistry) -> None:
    """Of 45 versions and 60 people a page has 20 and 25, and links to the rest keep what else was chosen."""
    page_registry.known["eggs"] = [version(1), *(version(n, "rankloop.eggs-v1") for n in range(2, 46))]
    many = [{**PEOPLE["people"][0], "annotator": f"person {n}"} for n in range(60)]  # type: ignore[index]
    page_registry.said["eggs"] = {"people": {**PEOPLE, "people": many}}
    shown = reader.text("/lines/eggs?versions=2&people=3")
    assert "21 to 40 of 45" in shown
    assert "51 to 60 of 60" in shown
    assert 'href="?versions=3&amp;people=3#versions"' in reader.get("/lines/eggs?versions=2&people=3").text


def test_a_queue_that_nobody_serves_is_noticed() -> None:
    """After minutes without a running cycle, it asks for a worker; not before, and not while one runs."""
    queued = CycleNow("cycle-1", "eggs", 7, "queued", "queued", None, None, BORN)
    assert "rankloop worker" in (missing_worker([queued], BORN + 600) or "")
    assert missing_worker([queued], BORN + 60) is None
    assert missing_worker([queued, replace(queued, state="running")], BORN + 600) is None
    assert missing_worker([], BORN) is None
