"""The checks of `rankloop doctor`, part by part."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator

from filelock import FileLock, Timeout

from ml_backend.doctor.backend import examine_backend
from ml_backend.doctor.findings import Finding, guarded, look, ok, wrong
from ml_backend.errors import LabelStudioError
from ml_backend.label_studio import (
    BACKEND_REMEDY,
    HOST_NAME_REMEDY,
    BackendAddress,
    LabelStudio,
    Project,
    Webhook,
    has_single_label_host,
    open_label_studio,
    projects_showing,
    same_url,
    webhook_is_right,
)
from ml_backend.labels import parse_label_config
from ml_backend.loop import WORKER_LOCK
from ml_backend.settings import Settings
from training.errors import RankloopError

TESTED_RELEASE = "1.23"
MAX_SKEW_S = 60.0
MIN_FREE_BYTES = 2 * 1024**3


def examine(settings: Settings, project_id: int | None = None) -> Iterator[Finding]:
    """Check everything, yielding findings one by one.

    Args:
        settings: the configuration to check.
        project_id: the project to check; None checks every project that shows this backend's predictions.
    """
    yield from guarded("model", lambda: _model(settings))
    yield from guarded("disk", lambda: _disk(settings))
    yield from guarded("versions", lambda: _registry(settings))
    yield from guarded("jobs", lambda: _jobs(settings))
    yield from guarded("backend", lambda: examine_backend(settings))
    yield from guarded("Label Studio", lambda: _label_studio(settings, project_id))


def _model(settings: Settings) -> Iterator[Finding]:
    from transformers.utils import logging as transformers_logging  # imports torch, which takes seconds

    from training.models import TextCodec, load_causal_lm

    transformers_logging.disable_progress_bar()
    TextCodec.load(settings.model)
    parameters = sum(parameter.numel() for parameter in load_causal_lm(settings.model, "cpu").parameters())
    yield ok("model", f"{settings.model} loads ({parameters / 1e6:.1f} million parameters)")


def _disk(settings: Settings) -> Iterator[Finding]:
    free = shutil.disk_usage(settings.home()).free
    with tempfile.TemporaryFile(dir=settings.home()) as probe:  # free space proves nothing: quotas, read-only mounts
        probe.write(b" " * 4096)
    detail = f"{free / 1024**3:.1f} GB free under {settings.home()}"
    if free < MIN_FREE_BYTES:
        yield wrong("disk", detail, "Free space: each version is a whole model. RANKLOOP_DATA_DIR moves the folder.")
    else:
        yield ok("disk", detail)


def _registry(settings: Settings) -> Iterator[Finding]:
    from ml_backend.registry import Registry

    for line in Registry(settings).line_states():
        if line.champion is None:
            yield look("versions", "there is no version yet", "The first `rankloop up` registers the base model.")
        else:
            yield ok("versions", f"the champion of line {line.name} is {line.champion.name}")
        if line.paused_since:
            since = f"line {line.name} is paused since {line.paused_since}"
            yield look("versions", since, f"To let it train again: rankloop resume {line.name}")


def _jobs(settings: Settings) -> Iterator[Finding]:
    from ml_backend.loop import Jobs

    cycles = Jobs(settings).cycles(limit=1)
    latest = f"the latest training cycle is {cycles[0].state}" if cycles else "there has been no training cycle yet"
    yield ok("jobs", f"the job queue answers; {latest}")
    if cycles and cycles[0].state == "failed":
        yield look("jobs", f"{cycles[0].job} failed: {cycles[0].reason}", "Its logs are in the data folder.")
    try:
        with FileLock(settings.home() / WORKER_LOCK, timeout=0):
            pass
    except Timeout:
        yield ok("worker", "a worker is running")
    else:
        where = " on this machine" if settings.database_url else ""
        finding = look if settings.database_url else wrong  # with a shared job queue it may run elsewhere
        yield finding(
            "worker", f"no worker is running{where}; nothing gets trained or proposed", "Start one: rankloop worker"
        )


def _label_studio(settings: Settings, project_id: int | None) -> Iterator[Finding]:
    with open_label_studio(settings) as label_studio:
        release = label_studio.release()
        detail = f"{label_studio.url} is Label Studio {release}"
        if release.startswith(TESTED_RELEASE):
            yield ok("Label Studio", detail)
        else:
            yield look("Label Studio", detail, f"rankloop is only tested with {TESTED_RELEASE}.")
        yield ok("key", f"belongs to {label_studio.whoami()}")
        yield from _clock(label_studio.clock_ahead_s)
        address = BackendAddress.from_settings(settings)
        ours = [label_studio.project(project_id)] if project_id else projects_showing(label_studio, address.title)
        if not ours:
            yield wrong("project", "no project shows this backend's predictions", "Run: rankloop init-project")
        for project in ours:
            yield from examine_project(label_studio, project, address)


def _clock(ahead_s: float | None) -> Iterator[Finding]:
    if ahead_s is not None and abs(ahead_s) > MAX_SKEW_S:
        detail = (
            f"Label Studio's clock is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} this machine's"
        )
        yield look("clock", detail, "Nothing is lost by it, but times in logs don't match. Set both clocks by NTP.")


def examine_project(label_studio: LabelStudio, project: Project, address: BackendAddress) -> Iterator[Finding]:
    """Check one project: its labeling configuration, predictions, backend, and webhook."""
    subject = f"project {project.id}"
    try:
        kind = parse_label_config(project.label_config).kind
        yield ok(subject, f"{project.title!r} asks for {kind} judgements on {project.tasks} tasks")
    except RankloopError as error:
        yield wrong(subject, str(error), f"{_connect(project)} --label-config label_config.xml")
    if not project.shows_predictions or not project.model_version:
        yield wrong(subject, "annotators don't see predictions", _connect(project))
    yield from guarded(subject, lambda: _connected(label_studio, project, address))
    yield from guarded(subject, lambda: _webhook(label_studio, project, address))


def _connected(label_studio: LabelStudio, project: Project, address: BackendAddress) -> Iterator[Finding]:
    subject = f"project {project.id}"
    backends = label_studio.backends(project.id)
    ours = [backend for backend in backends if same_url(backend.url, address.url)]
    if not ours:
        others = ", ".join(backend.url for backend in backends) or "none"
        yield wrong(subject, f"the backend {address.url} isn't connected (connected: {others})", _connect(project))
        yield from _reachable(label_studio, project, address)
        return
    if not same_url(backends[0].url, address.url):
        yield wrong(
            subject,
            f"Label Studio uses only the first of its backends, which is {backends[0].url}",
            "Remove that one in the project's settings (Model), or connect only one backend.",
        )
    elif len(backends) > 1:
        yield look(subject, f"{len(backends)} backends are connected; the first one is used", _connect(project))
    if ours[0].connected:
        yield ok(subject, f"the backend is connected and reports {ours[0].model_version or 'no version yet'}")
    else:
        yield wrong(subject, f"Label Studio can't use the backend: {ours[0].error or 'no answer'}", BACKEND_REMEDY)
        yield from _reachable(label_studio, project, address)
    wanted = address.guard.basic[0] if address.guard.basic else ""
    if ours[0].basic_auth_user != wanted:
        yield wrong(subject, "Label Studio's Basic credentials differ from the backend's", _connect(project))


def _reachable(label_studio: LabelStudio, project: Project, address: BackendAddress) -> Iterator[Finding]:
    """Check that Label Studio's protection against private addresses admits the backend. Only creating a webhook shows
    this, so one with a separate address is created and removed at once.
    """
    subject = f"project {project.id}"
    if has_single_label_host(address.url):
        return
    try:
        probe = label_studio.add_webhook(project.id, f"{address.url}/doctor", {})
    except LabelStudioError as error:
        yield wrong(subject, f"Label Studio refuses the address {address.url} ({error.got})", error.remedy or "")
    else:
        label_studio.remove_webhook(probe.id)


def _webhook(label_studio: LabelStudio, project: Project, address: BackendAddress) -> Iterator[Finding]:
    subject = f"project {project.id}"
    every = label_studio.webhooks(project.id)
    yield from _dead_webhooks(label_studio, project, [hook for hook in every if hook.active])
    hooks = [hook for hook in every if same_url(hook.url, address.webhook_url)]
    if not hooks and has_single_label_host(address.url):
        yield wrong(subject, f"Label Studio creates no webhook for {address.url}", HOST_NAME_REMEDY)
    elif not hooks:
        yield wrong(subject, "no webhook tells the backend about judgements", _connect(project))
    elif len(hooks) > 1:
        yield wrong(subject, f"{len(hooks)} webhooks tell the backend everything twice", _connect(project))
    elif not webhook_is_right(hooks[0], address.webhook_headers()):
        yield wrong(subject, "the webhook is inactive, or its credentials aren't the backend's", _connect(project))
    else:
        secured = "with its credentials" if hooks[0].headers else "without credentials, since none are set"
        yield ok(subject, f"one webhook tells the backend about judgements, {secured}")


def _dead_webhooks(label_studio: LabelStudio, project: Project, hooks: list[Webhook]) -> Iterator[Finding]:
    """Find webhooks left behind by removed backends: without Redis every annotator waits for each webhook."""
    urls = [f"{backend.url.rstrip('/')}/webhook" for backend in label_studio.backends(project.id)]
    for hook in hooks:
        if hook.url.rstrip("/").endswith("/webhook") and not any(same_url(hook.url, url) for url in urls):
            detail = f"the webhook to {hook.url} belongs to no backend of the project; it may keep annotators waiting"
            yield look(f"project {project.id}", detail, "Delete it in the project's settings (Webhooks).")


def _connect(project: Project) -> str:
    return f"Run: rankloop init-project --project {project.id}"
