"""Each action: asked first, refused without a seal or from strangers, done once, and safe while a cycle runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from page_fakes import RUNNING, PageJobs, PageRegistry
from page_reader import Reader, words

from ml_backend.page.forms import SESSION_COOKIE, Once

PROMOTE = "/versions/rankloop.eggs-v3/promote"
LINE = "/lines/eggs"
CANCEL = "/cycles/cycle-7-5/cancel"
ALL = [PROMOTE, f"{LINE}/rollback", f"{LINE}/train", f"{LINE}/pause", f"{LINE}/resume", CANCEL]
DONE = {
    PROMOTE: "rankloop.eggs-v3 is now the champion of line eggs.",
    f"{LINE}/rollback": "rankloop.eggs-v1 is the champion of line eggs again.",
    f"{LINE}/train": "Training cycle cycle-7-new1 is queued.",
    f"{LINE}/pause": "Line eggs is paused.",
    f"{LINE}/resume": "Line eggs trains by itself again.",
    CANCEL: "cycle-7-5, which was running, is cancelled.",
}
AGAIN = {
    PROMOTE: "rankloop.eggs-v3 is already the champion of line eggs.",
    f"{LINE}/rollback": "rankloop.eggs-v1 is already the champion of line eggs again.",
    f"{LINE}/train": "Training cycle cycle-7-new1 of line eggs is already queued.",
    f"{LINE}/pause": "Line eggs is already paused, since 2026-09-22T10:00:00+00:00.",
    f"{LINE}/resume": "Line eggs isn't paused.",
    CANCEL: "Nothing was cancelled: training cycle cycle-7-5 has ended",
}


@pytest.fixture
def ready(reader: Reader, page_registry: PageRegistry, page_jobs: PageJobs) -> Callable[[str], Reader]:
    """Makes an action possible: a paused line for resuming, a running cycle for cancelling."""

    def prepare(path: str) -> Reader:
        if path.endswith("resume"):
            page_registry.paused["eggs"] = "2026-09-22T10:00:00+00:00"
        if path == CANCEL:
            page_jobs.cycle = RUNNING
        return reader

    return prepare


def _state(registry: PageRegistry, jobs: PageJobs) -> tuple[object, ...]:
    return (
        list(registry.calls),
        list(registry.crowned["eggs"]),
        dict(registry.paused),
        list(jobs.started),
        jobs.cancelled[:],
    )


@pytest.mark.parametrize("path", ALL)
def test_it_is_asked_and_then_done(path: str, ready: Callable[[str], Reader]) -> None:
    """The first page only asks; the form does it, and says what came of it."""
    reader = ready(path)
    question = reader.get(path)
    assert question.status_code == 200
    assert question.text.count("<form") == 1
    answer = reader.send(path, reader.form(path))
    assert answer.status_code == 200
    assert DONE[path] in words(answer.text)


@pytest.mark.parametrize("path", ALL)
def test_asking_changes_nothing(
    path: str, ready: Callable[[str], Reader], page_registry: PageRegistry, page_jobs: PageJobs
) -> None:
    """Whoever only looks at the question, or leaves it, has done nothing."""
    reader = ready(path)
    before = _state(page_registry, page_jobs)
    assert reader.get(path).status_code == 200
    assert _state(page_registry, page_jobs) == before


@pytest.mark.parametrize("path", ALL)
@pytest.mark.parametrize(
    "fault", ["no token", "wrong token", "other action", "no cookie", "other cookie", "other state"]
)
def test_a_form_without_its_seal_does_nothing(
    path: str, fault: str, ready: Callable[[str], Reader], page_registry: PageRegistry, page_jobs: PageJobs
) -> None:
    """Another site can't make one: it knows neither the cookie nor a token for it."""
    reader = ready(path)
    form = reader.form(path)
    if fault == "no token":
        del form["token"]
    elif fault == "wrong token":
        form["token"] = form["token"][::-1]
    elif fault == "other action":
        form = reader.form(f"{LINE}/train" if path != f"{LINE}/train" else PROMOTE)
    elif fault == "no cookie":
        reader.client.delete_cookie(SESSION_COOKIE)
    elif fault == "other cookie":
        reader.client.set_cookie(SESSION_COOKIE, "x" * 43)
    else:
        form["expected"] = "something else"
    before = _state(page_registry, page_jobs)
    answer = reader.send(path, form)
    assert answer.status_code == 403
    assert "Nothing was done" in words(answer.text)
    assert _state(page_registry, page_jobs) == before


@pytest.mark.parametrize("path", ALL)
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"}, {"Sec_Fetch_Site": "none"},
        {"Sec_Fetch_Site": "", "Origin": "https://evil.example"}, {"Sec_Fetch_Site": "", "Origin": "null"},
        {"Sec_Fetch_Site": "", "Origin": "http://localhost:8080"},
    ],
)  # fmt: skip
def test_a_form_from_another_site_does_nothing(
    path: str,
    headers: dict[str, str],
    ready: Callable[[str], Reader],
    page_registry: PageRegistry,
    page_jobs: PageJobs,
) -> None:
    """Even with a right token, whatever the browser says of where it comes from: another port is another site."""
    reader = ready(path)
    form, before = reader.form(path), _state(page_registry, page_jobs)
    answer = reader.send(path, form, **headers)
    assert answer.status_code == 403
    assert _state(page_registry, page_jobs) == before


@pytest.mark.parametrize("path", ALL)
def test_a_stranger_gets_in_nowhere(
    path: str, ready: Callable[[str], Reader], page_registry: PageRegistry, page_jobs: PageJobs
) -> None:
    """Neither the question nor the deed, even with somebody's cookie and token."""
    reader = ready(path)
    form, before = reader.form(path), _state(page_registry, page_jobs)
    stranger = Reader(reader.client, "eve:guess")
    for answer in (stranger.get(path), stranger.send(path, form), reader.client.post(path, data=form)):
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic")
    assert _state(page_registry, page_jobs) == before


@pytest.mark.parametrize("path", ALL)
def test_a_form_sent_twice_does_it_once(
    path: str, ready: Callable[[str], Reader], page_registry: PageRegistry, page_jobs: PageJobs
) -> None:
    """The second click gets what came of the first one, and is told so."""
    reader = ready(path)
    form = reader.form(path)
    reader.send(path, form)
    after = _state(page_registry, page_jobs)
    answer = reader.send(path, form)
    assert answer.status_code == 200
    said = words(answer.text)
    assert "This form was sent before, and nothing was done twice." in said
    assert DONE[path] in said
    assert _state(page_registry, page_jobs) == after


@pytest.mark.parametrize("path", ALL)
def test_clicks_at_the_same_moment_do_it_once(
    path: str, ready: Callable[[str], Reader], page_registry: PageRegistry, page_jobs: PageJobs
) -> None:
    """Eight copies of the form arrive together."""
    reader = ready(path)
    form = reader.form(path)
    cookie = reader.client.get_cookie(SESSION_COOKIE)
    assert cookie is not None

    def click(_: int) -> str:
        client = reader.client.application.test_client()
        client.set_cookie(SESSION_COOKIE, cookie.value)
        return words(Reader(client).send(path, form).text)

    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(click, range(8)))
    assert all(DONE[path] in each for each in said)
    assert sum("sent before" in each for each in said) == 7
    changed = [call for call in page_registry.calls if call[0] in ("promote", "rollback", "pause", "resume")]
    assert len(changed) + len(page_jobs.started) + len(page_jobs.cancelled) == 1


@pytest.mark.parametrize("path", ALL)
def test_two_people_who_decide_alike_do_it_once(path: str, ready: Callable[[str], Reader]) -> None:
    """The second one, with a form of their own, is told how things are already."""
    reader = ready(path)
    first, second = reader.form(path), reader.form(path)
    reader.send(path, first)
    answer = reader.send(path, second)
    assert answer.status_code == (200 if path.endswith("train") else 409)  # a cycle is queued, as they wanted
    assert AGAIN[path] in words(answer.text)


@pytest.mark.parametrize("path", [PROMOTE, f"{LINE}/rollback"])
def test_a_champion_that_changed_meanwhile_stays(
    path: str, ready: Callable[[str], Reader], page_registry: PageRegistry
) -> None:
    """A cycle promoted another version between question and answer: the decision was about something else."""
    reader = ready(path)
    form = reader.form(path)
    other = replace(page_registry.known["eggs"][2], number=4, name="rankloop.eggs-v4")
    page_registry.known["eggs"].append(other)
    page_registry.promote(other.name)
    answer = reader.send(path, form)
    assert answer.status_code == 409
    assert "no longer rankloop.eggs-v2" in words(answer.text)
    assert page_registry.crowned["eggs"][-1] == other.name


@pytest.mark.parametrize("path", [PROMOTE, f"{LINE}/rollback", f"{LINE}/pause", f"{LINE}/resume"])
def test_a_running_cycle_is_left_alone(path: str, ready: Callable[[str], Reader], page_jobs: PageJobs) -> None:
    """It goes on, and the deed is done."""
    reader = ready(path)
    page_jobs.cycle = RUNNING
    assert DONE[path] in words(reader.send(path, reader.form(path)).text)
    assert page_jobs.cycle == RUNNING
    assert page_jobs.cancelled == []


def test_training_while_a_cycle_runs_starts_no_other(reader: Reader, page_jobs: PageJobs) -> None:
    """There is one cycle for each line at a time, and the page says which."""
    page_jobs.cycle = RUNNING
    answer = reader.send(f"{LINE}/train", reader.form(f"{LINE}/train"))
    assert answer.status_code == 409
    assert "Training cycle cycle-7-5 of line eggs is already running." in words(answer.text)
    assert page_jobs.started == []


def test_a_paused_line_is_trained_on_purpose_only(
    reader: Reader, page_registry: PageRegistry, page_jobs: PageJobs
) -> None:
    """The question says that it is paused, and only then is the pause overridden; it stays paused."""
    reader.send(f"{LINE}/train", reader.form(f"{LINE}/train"))
    page_jobs.cycle = None
    page_registry.paused["eggs"] = "2026-09-22T10:00:00+00:00"
    assert "It trains this once and stays paused." in reader.text(f"{LINE}/train")
    reader.send(f"{LINE}/train", reader.form(f"{LINE}/train"))
    assert page_jobs.started == [(7, "eggs", False), (7, "eggs", True)]
    assert "eggs" in page_registry.paused


def test_the_page_is_fresh_after_a_deed(reader: Reader) -> None:
    """What was remembered is forgotten at once."""
    assert "rankloop.eggs-v2 champion" in reader.text(LINE)
    reader.send(PROMOTE, reader.form(PROMOTE))
    assert "rankloop.eggs-v3 champion" in reader.text(LINE)


def test_the_question_says_when_a_contest_ends(reader: Reader, page_registry: PageRegistry) -> None:
    """Promoting the challenger itself is no surprise; going back behind it is."""
    page_registry.challenge("eggs", 3)
    said = "People no longer compare rankloop.eggs-v3 with the champion; its contest ends undecided."
    assert said in reader.text(f"{LINE}/rollback")
    assert said not in reader.text(PROMOTE)


def test_open_tasks_are_told_of_a_new_champion(reader: Reader, page_jobs: PageJobs) -> None:
    """Promoting does what the command does; a queue that is away is said, and doesn't undo the promotion."""
    reader.send(PROMOTE, reader.form(PROMOTE))
    assert page_jobs.told == 1
    form = reader.form(f"{LINE}/rollback")
    page_jobs.away = "the job queue can't be used"
    answer = reader.send(f"{LINE}/rollback", form)
    assert answer.status_code == 200
    assert "rankloop.eggs-v2 is the champion of line eggs again. The job queue couldn't be told" in words(answer.text)


def test_what_cannot_be_done_is_said_at_once(reader: Reader, page_registry: PageRegistry) -> None:
    """No champion to go back to, no such line, no such version, no such cycle."""
    page_registry.crowned["eggs"] = ["rankloop.eggs-v1"]
    for path, said in (
        (f"{LINE}/rollback", "no previous champion"),
        ("/lines/none/pause", "there is no such line"),
        ("/versions/none/promote", "there is no such version"),
    ):
        answer = reader.get(path)
        assert answer.status_code in (404, 503)
        assert said in words(answer.text)
    assert reader.get("/lines/eggs/delete").status_code == 404
    answer = reader.send("/cycles/none/cancel", reader.form("/cycles/none/cancel"))
    assert answer.status_code == 409
    assert "there is no such training cycle" in words(answer.text)


def test_a_deed_that_failed_may_be_tried_again(reader: Reader, page_jobs: PageJobs) -> None:
    """The queue was away for a moment: the same form works afterwards."""
    form = reader.form(f"{LINE}/train")
    page_jobs.away = "the job queue can't be used"
    assert reader.send(f"{LINE}/train", form).status_code == 503
    page_jobs.away = None
    assert DONE[f"{LINE}/train"] in words(reader.send(f"{LINE}/train", form).text)


def test_the_cookie_is_kept_from_scripts_and_other_sites(reader: Reader) -> None:
    """HttpOnly, SameSite=Strict, and Secure behind TLS; a second question keeps it."""
    cookie = reader.get(PROMOTE).headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Secure" not in cookie
    assert reader.get(PROMOTE).headers["Set-Cookie"].partition(";")[0] == cookie.partition(";")[0]
    reader.headers["X-Forwarded-Proto"] = "https"
    assert "Secure" in reader.get(PROMOTE).headers["Set-Cookie"]


def test_old_forms_are_forgotten_without_growing() -> None:
    """A thousand are remembered; whoever failed isn't."""
    once: Once[int] = Once()
    for number in range(1200):
        once(str(number), lambda number=number: number)  # type: ignore[misc]
    assert once("1199", lambda: -1)[0] == 1199
    assert once("0", lambda: -1) == (-1, None)
    with pytest.raises(ZeroDivisionError):
        once("bad", lambda: 1 // 0)
    assert once("bad", lambda: 5) == (5, None)


def test_whoever_waits_for_a_running_deed_gets_its_outcome() -> None:
    """It isn't started twice, and nobody is told too early."""
    once: Once[str] = Once()
    gate, entered = threading.Event(), threading.Event()

    def slow() -> str:
        entered.set()
        assert gate.wait(30)
        return "first"

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(once, "form", slow)
        assert entered.wait(30)
        second = pool.submit(once, "form", lambda: "second")
        gate.set()
        assert first.result(30)[0] == second.result(30)[0] == "first"
