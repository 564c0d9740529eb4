"""The pages as HTML: facts go in, text comes out. Nothing here knows of HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ml_backend.page import figures
from ml_backend.page.actions import Outcome, Question
from ml_backend.page.charts import Chart, leaderboard_chart, versions_chart
from ml_backend.page.facts import Facts, LineFacts, VersionReports
from ml_backend.page.forms import Sealed
from ml_backend.page.line_view import LineView, view_line
from ml_backend.page.opinions import Opinions
from ml_backend.page.paging import part_of
from ml_backend.page.remembered import Known
from ml_backend.page.status_view import Waiting, cycles_now, missing_worker, proposals, waiting_on
from ml_backend.page.version_view import VersionView, view_version
from ml_backend.registry import LineState
from ml_backend.settings import Settings

LINES_SHOWN, VERSIONS_SHOWN, CYCLES_SHOWN, PEOPLE_SHOWN, ANSWERS_SHOWN = 10, 20, 10, 25, 5
"""How much of a long list a page shows at once."""
FILES = {"page.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"}
"""What the pages need besides themselves, each with its content type."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for a page: what stands before its path, and its query."""

    root: str = ""
    query: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Server:
    """What the server itself knows: `loaded` versions by line, a `fault` of the model, the latest failed requests."""

    loaded: Callable[[], Mapping[str, str | None]]
    fault: Callable[[], str | None]
    failures: Callable[[], Sequence[Mapping[str, Any]]]


class NotThereError(Exception):
    """There is no such page; says so to people. `is_passing` if that may change by itself: a part doesn't answer."""

    def __init__(self, said: str, *, is_passing: bool = False) -> None:
        super().__init__(said)
        self.is_passing = is_passing


class Site:
    """Renders pages.

    Args:
        settings: where Label Studio and MLflow are.
        facts: what there is to show.
        server: see `Server`.
    """

    def __init__(self, settings: Settings, facts: Facts, server: Server) -> None:
        self._settings = settings
        self._facts = facts
        self._server = server
        self._jinja = Environment(
            loader=PackageLoader("ml_backend.page"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        names = ("share", "between", "number", "span", "when", "count")
        self._jinja.filters.update({name: getattr(figures, name) for name in names})

    def home(self, asked: Asked) -> str:
        """What the loop does, and all lines."""
        self._facts.ask_all()
        lines = self._facts.lines()
        shown = part_of(lines.value or [], "lines", asked.query.get("lines"), LINES_SHOWN)
        self._facts.ask_opinions([state.name for state in shown.items])
        return self._render(
            "home.html",
            asked,
            title="What the loop does",
            lines=shown,
            waiting={state.name: self._waiting(state) for state in shown.items},
            opinions={state.name: self._facts.opinions(state.name).value or Opinions() for state in shown.items},
            loaded=self._server.loaded(),
            proposals=proposals(self._facts.jobs().value),
        )

    def line(self, name: str, asked: Asked) -> str:
        """A line.

        Raises:
            NotThereError: there is no such line.
        """
        state, facts = self._line(name)
        view = view_line(name, facts)
        query = asked.query
        return self._render(
            "line.html",
            asked,
            title=f"Line {name}",
            line=view,
            waiting=self._waiting(state),
            versions=part_of(view.versions, "versions", query.get("versions"), VERSIONS_SHOWN),
            cycles=part_of(view.attempts, "cycles", query.get("cycles"), CYCLES_SHOWN),
            people=part_of((view.people or {}).get("people") or (), "people", query.get("people"), PEOPLE_SHOWN),
            charts=self.line_charts(view),
            latest=self._latest(view, facts),
            loaded=self._server.loaded().get(name),
            project_url=self._project_url,
        )

    def version(self, name: str, asked: Asked) -> str:
        """A version.

        Raises:
            NotThereError: there is no such version.
        """
        view, reports = self._version(name)
        connected = self._facts.projects().value or ()
        path = self._facts.run_path(self._facts.version(name).value) if self._mlflow() else None  # type: ignore[arg-type]
        return self._render(
            "version.html",
            asked,
            title=f"Version {name}",
            view=view,
            report_fault=reports.fault,
            examples=part_of(view.examples, "answers", asked.query.get("answers"), ANSWERS_SHOWN),
            projects=[each.project_id for each in connected if each.line == view.line],
            project_url=self._project_url,
            run_url=f"{self._mlflow()}/{path.value}" if path and path.value else None,
        )

    def confirm(self, question: Question, sealed: Sealed, asked: Asked) -> str:
        """The page that asks before an action."""
        return self._render("confirm.html", asked, title=question.title, question=question, sealed=sealed)

    def outcome(self, outcome: Outcome, before: float | None, asked: Asked) -> str:
        """The page that says what came of an action; `before` is when it was done if the form was sent again."""
        title = "Done" if outcome.done else "Nothing changed"
        return self._render("outcome.html", asked, title=title, outcome=outcome, before=before)

    def fault(self, title: str, sentence: str, back: str, asked: Asked) -> str:
        """The page for what can't be shown or done."""
        return self._render("fault.html", asked, title=title, sentence=sentence, back=back)

    def chart(self, kind: str, name: str, chart: str) -> Chart:
        """A chart of a line or a version (`kind`).

        Raises:
            NotThereError: there is no such chart.
        """
        charts = (
            self.line_charts(view_line(name, self._line(name)[1])) if kind == "lines" else self._version(name)[0].charts
        )
        found = next((each for each in charts if each.name == chart), None)
        if found is None:
            raise NotThereError(f"There is no such chart of {name}.")
        return found

    def line_charts(self, view: LineView) -> tuple[Chart, ...]:
        """The charts of a line's page."""
        found = (versions_chart(view.versions), leaderboard_chart(view.leaderboard))
        return tuple(chart for chart in found if chart is not None)

    def file(self, name: str) -> tuple[bytes, str]:
        """A file that pages need, and its content type.

        Raises:
            NotThereError: there is no such file.
        """
        if name not in FILES:
            raise NotThereError("There is no such file.")
        return (resources.files("ml_backend.page") / "static" / name).read_bytes(), FILES[name]

    def _line(self, name: str) -> tuple[LineState, LineFacts]:
        self._facts.ask_all()
        lines = self._facts.lines()
        state = next((state for state in lines.value or () if state.name == name), None)
        if state is None:
            raise NotThereError(lines.fault or f"There is no line {name}.", is_passing=lines.value is None)
        known = self._facts.line(name)
        if known.value is None:
            raise NotThereError(known.fault or f"Line {name} can't be read.", is_passing=True)
        return state, known.value

    def _latest(self, view: LineView, facts: LineFacts) -> VersionView | None:
        """The challenger, or else the champion, unless that is the base."""
        name = view.challenger or (view.champion.name if view.champion else None)
        version = next((version for version in facts.versions if version.name == name), None)
        if version is None or version.tags.get("kind") == "base":
            return None
        return view_version(version, facts, self._facts.reports(version).value or VersionReports())

    def _version(self, name: str) -> tuple[VersionView, Known[VersionReports]]:
        self._facts.ask_all()
        version = self._facts.version(name)
        if version.value is None:
            said = version.fault or f"There is no version {name}."
            raise NotThereError(said, is_passing=self._facts.lines().fault is not None)
        facts = self._facts.line(version.value.line)
        if facts.value is None:
            raise NotThereError(facts.fault or f"Line {version.value.line} can't be read.", is_passing=True)
        current = next((each for each in facts.value.versions if each.name == name), version.value)
        reports = self._facts.reports(current)
        return view_version(current, facts.value, reports.value or VersionReports()), reports

    def _waiting(self, state: LineState) -> Waiting:
        jobs = self._facts.jobs().value
        connected = [each.project_id for each in self._facts.projects().value or () if each.line == state.name]
        return waiting_on(state, jobs, connected, cycles_now(jobs))

    def _faults(self) -> list[tuple[str, str]]:
        """What is wrong, each with the part and what to do."""
        jobs, lines, projects = self._facts.jobs(), self._facts.lines(), self._facts.projects()
        found = {
            "MLflow": lines.fault,
            "The job queue": jobs.fault,
            "Label Studio": projects.fault,
            "The worker": missing_worker(cycles_now(jobs.value), time.time()),
            "The model": self._server.fault(),
        }
        return [(part, fault) for part, fault in found.items() if fault]

    def _project_url(self, project: int, page: str = "data") -> str:
        return f"{self._settings.label_studio_pages()}/projects/{project}/{page}"

    def _mlflow(self) -> str | None:
        return self._settings.mlflow_pages()

    def _render(self, template: str, asked: Asked, **values: Any) -> str:
        lines = self._facts.lines()
        names = [state.name for state in lines.value or ()]
        common = {"root": asked.root, "query": asked.query, "faults": self._faults(), "line_names": names[:LINES_SHOWN]}
        failures = list(self._server.failures())[:5]
        return self._jinja.get_template(template).render(**common, at=lines.at, failures=failures, **values)
