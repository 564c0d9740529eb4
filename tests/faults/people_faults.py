"""What people do to a project at the wrong moment: a label config that can't be used, a backend removed, a rollback."""

from __future__ import annotations

from itertools import pairwise

from faults.annotators import LABEL_CONFIG
from faults.outside_faults import wait_for_step
from faults.stack import JUDGED_NOW, RETRY_AFTER_S, Stack

UNREADABLE = '<View><Text name="prompt" value="$prompt"/></View>'
"""There is nothing to judge in it."""


def cycle_always_failing(stack: Stack) -> None:
    """The label config can't be used. Each attempt has a reason, and the pause before it grows."""
    project = stack.open_project("cycle always failing", label_config=UNREADABLE, train_after=JUDGED_NOW)
    ended = lambda number: len([c for c in stack.cycles(project.id) if c.ended]) == number  # noqa: E731
    stack.until(lambda: ended(1), "the imported judgements start a cycle, which fails")
    stack.stays_quiet(project)

    project.attempts = 2
    stack.annotators.start_training(project)
    stack.until(lambda: ended(2), "Start Training makes one more attempt")
    stack.stays_quiet(project)

    project.attempts = 3
    stack.annotators.judge(project, JUDGED_NOW - 1)
    stack.annotators.start_training(project)
    stack.until(lambda: ended(3), "Start Training makes a third one")
    project.attempts = 4
    stack.annotators.judge(project, JUDGED_NOW)
    stack.until(
        lambda: any("a pause until" in why for why in stack.looks(project)), "the status says what it waits for"
    )
    stack.until(lambda: ended(4), "after the pause, new judgements make a fourth attempt")
    attempts = stack.registry.attempts(stack.line)[::-1]
    assert [attempt.status for attempt in attempts] == ["failed"] * 4, attempts
    waited_s = [after.began_at - (before.ended_at or 0) for before, after in pairwise(attempts)]
    assert waited_s[-1] >= RETRY_AFTER_S * 2 ** (len(attempts) - 2), waited_s

    stack.stays_quiet(project)
    project.attempts = 5
    stack.annotators.switch(project, label_config=LABEL_CONFIG)
    stack.until(lambda: len(stack.cycles(project.id)) == project.attempts, "the mended label config starts a cycle")
    stack.close(project, {"cycle that can only fail": 4})


def project_disconnected(stack: Stack) -> None:
    """The backend is removed from the project, and its webhook stays. What it reports starts nothing."""
    project = stack.open_project("disconnected")
    stack.nobody_looks()
    stack.until(lambda: stack.annotators.disconnect(project) == 0, "the backend is gone")
    project.attempts = 0
    stack.annotators.judge(project, JUDGED_NOW)
    stack.until(
        lambda: any("isn't connected" in why for why in stack.looks(project)), "the status says why nothing starts"
    )
    stack.stays_quiet(project)

    answer = stack.send({"action": "START_TRAINING", "project": {"id": project.id}})
    if answer["job"]:  # the server hasn't noticed yet; the worker asks Label Studio
        cycle = stack.until(lambda: next((c for c in stack.cycles(project.id) if c.ended), None), "it has ended")
        assert cycle.state == "refused", cycle
        answer = {"status": cycle.state, "message": cycle.reason}
        project.attempts += 1
    assert answer["status"] == "refused", answer
    assert "isn't connected" in answer["message"], answer
    stack.stays_quiet(project)

    project.attempts += 1
    stack.reconnect(project)
    stack.until(lambda: len(stack.cycles(project.id)) == project.attempts, "a cycle starts once it is connected again")
    tried = {"webhook of a project that isn't connected": JUDGED_NOW, "START_TRAINING of such a project": 1}
    stack.close(project, tried)


def rolled_back_during_a_cycle(stack: Stack) -> None:
    """Somebody rolls back while a cycle trains. That holds: its version is registered, not promoted."""
    project = stack.open_project("rolled back")
    before = stack.registry.current(stack.line)
    stack.registry.promote(stack.add_version().name)
    stack.annotators.judge(project, JUDGED_NOW)
    wait_for_step(stack, stack.cycle(project).job, "reward")
    assert stack.registry.rollback(stack.line).name == before.name
    stack.close(project, {"rollback during a cycle": 1}, ends="registered")
    stack.stays_quiet(project)
    assert stack.registry.current(stack.line).name == before.name


def promoted_during_a_cycle(stack: Stack) -> None:
    """Somebody promotes another version while the worker is dead, just before it would promote its own."""
    project = stack.open_project("promoted by hand")
    other = stack.add_version()
    stack.plan_kills([("before", "promote")])
    stack.annotators.judge(project, JUDGED_NOW)
    stack.cycle(project)
    while not stack.worker.died(0.2):
        pass
    stack.registry.promote(other.name)
    stack.worker.start()
    stack.close(project, {"promotion by hand during a cycle": 1}, ends="registered")
    stack.stays_quiet(project)
    assert stack.registry.current(stack.line).name == other.name


def config_changed(stack: Stack) -> None:
    """The label config is changed while judgements are counted, and while their cycle trains."""
    project = stack.open_project("config changed")
    stack.annotators.switch(project, label_config=_with_header("First"))
    stack.annotators.judge(project, JUDGED_NOW // 2)
    stack.annotators.switch(project, label_config=_with_header("Second"))
    stack.annotators.judge(project, JUDGED_NOW - JUDGED_NOW // 2)
    wait_for_step(stack, stack.cycle(project).job, "reward")
    stack.annotators.switch(project, label_config=_with_header("Third"))
    stack.close(project, {"label config changed": 3})
    stack.stays_quiet(project)


def _with_header(text: str) -> str:
    head, mark, rest = LABEL_CONFIG.partition('<View className="rl-prompt">')
    assert mark
    return f'{head}<Header value="{text}"/>{mark}{rest}'
