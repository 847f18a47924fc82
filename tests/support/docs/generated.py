"""Generates the parts of the documents between markers, and the published specifications.

`python -m tests.support.docs.generated` rewrites them:

    <!-- generated: NAME -->
    …
    <!-- end of NAME -->
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeGuard

from prometheus_client.metrics import MetricWrapperBase

from segments.http.app import interface, operations
from segments.http.routing import problem_catalogue
from segments.settings import Settings
from segments.settings.sections import DevSettings
from segments.specs import asyncapi, json_schemas, settings_table, topics_table
from segments.telemetry import log_events, metrics
from tests.support.paths import ROOT

PACKAGES = (
    "streams",
    "streams/refresh",
    "state",
    "state/machine",
    "state/store",
    "state/view",
    "state/history",
    "http",
    "http/routes",
    "http/routing",
    "http/read",
    "http/write",
    "http/auth",
    "http/reports",
    "http/openapi",
    "http/server",
    "src/segments",
    "src/segments/contracts",
    "src/segments/contracts/cloudevents",
    "src/segments/contracts/responses",
    "src/segments/settings",
    "src/segments/telemetry",
    "src/segments/client",
    "src/segments/kafka",
    "src/segments/destinations",
    "src/segments/process",
    "src/segments/specs",
    "src/segments/doctor",
    "src/segments/local",
    "src/segments/cli",
)
_CLAUSES = re.compile(r" \((?:(?:design|requirement) )?[A-Z]?\d+(?:[.-]\d+)*(?:, [A-Z]\d+)*\)")


def modules() -> str:
    """Every module with the first paragraph of its docstring, by package."""
    lines = []
    for package in PACKAGES:
        lines.append(f"## {package}/\n")
        lines += [
            f"- `{path.name}`: {_summary(path)}" for path in sorted((ROOT / package).glob("*.py"))
        ]
        lines.append("")
    return "\n".join(lines)


def _summary(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    first = " ".join(docstring.split("\n\n")[0].split())
    return _CLAUSES.sub("", first)


def bench_table() -> str:
    """Every command under bench/ and what it measures."""
    rows = ["| command | what it measures |", "| --- | --- |"]
    rows += [
        f"| `python -m bench.{path.stem}` | {_summary(path)} |"
        for path in sorted((ROOT / "bench").glob("*.py"))
        if not path.stem.startswith("_")
    ]
    return "\n".join(rows) + "\n"


def metric_table() -> str:
    """Every metric of the catalogue, and which applications serve it."""
    rows = ["| metric | kind | labels | served by | meaning |", "| --- | --- | --- | --- | --- |"]
    return "\n".join(rows + [_metric_row(*each) for each in metrics.SERVED_BY.items()]) + "\n"


def _metric_row(metric: MetricWrapperBase, applications: tuple[str, ...]) -> str:
    [described] = metric.describe()
    # A counter is described without the ending under which it is scraped.
    name = described.name + ("_total" if described.type == "counter" else "")
    labels = ", ".join(metric._labelnames) or "none"
    served_by = "all" if applications == metrics.APPLICATIONS else ", ".join(applications)
    return f"| `{name}` | {described.type} | {labels} | {served_by} | {described.documentation} |"


class LogCall(NamedTuple):
    """A call that logs: `log.warning("event", field=…)` or an alias of `log`."""

    event: str
    level: str
    fields: tuple[str, ...]
    module: str


_LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
_LOGGERS = {"log", "_log", "logger"}
SOURCE_PACKAGES = ("src/segments", "streams", "state", "http")


def log_calls() -> list[LogCall]:
    """Every log call of the source, by event and module."""
    found = []
    for package in SOURCE_PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            module = str(path.relative_to(ROOT)).removeprefix("src/segments/")
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found += [_log_call(node, module) for node in ast.walk(tree) if _is_log_call(node)]
    return sorted(found)


def _is_log_call(node: ast.AST) -> TypeGuard[ast.Call]:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in _LEVELS
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in _LOGGERS
    )


def _log_call(call: ast.Call, module: str) -> LogCall:
    assert isinstance(call.func, ast.Attribute)
    level = "error" if call.func.attr == "exception" else call.func.attr
    event = ast.literal_eval(call.args[0]) if _is_literal(call.args) else ast.unparse(call)
    # Fields of `**mapping` are not known here.
    fields = tuple(
        keyword.arg for keyword in call.keywords if keyword.arg not in (None, "exc_info")
    )
    return LogCall(event, level, fields, module)


def _is_literal(arguments: list[ast.expr]) -> bool:
    return len(arguments) == 1 and isinstance(arguments[0], ast.Constant)


def log_event_table() -> str:
    """Every log event with its level, its fields, the modules that log it, and its meaning."""
    rows = ["| event | level | fields | logged by | meaning |", "| --- | --- | --- | --- | --- |"]
    by_event: dict[str, list[LogCall]] = {}
    for call in log_calls():
        by_event.setdefault(call.event, []).append(call)
    for event, calls in by_event.items():
        levels = ", ".join(dict.fromkeys(call.level for call in calls))
        names = dict.fromkeys(name for call in calls for name in call.fields)
        modules = dict.fromkeys(call.module for call in calls)
        fields = ", ".join(f"`{name}`" for name in names) or "none"
        logged_by = ", ".join(f"`{module}`" for module in modules)
        meaning = log_events.EVENTS.get(event, "")
        rows.append(f"| `{event}` | {levels} | {fields} | {logged_by} | {meaning} |")
    return "\n".join(rows) + "\n"


def role_table() -> str:
    """The role that each route needs by default."""
    settings = Settings.model_construct(dev=DevSettings(enabled=True))
    rows = ["| route | role |", "| --- | --- |"]
    rows += [
        f"| `{operation.method} {operation.path}` | {operation.required_role(settings.auth)}"
        f"{' or signed link' if operation.signed_link else ''} |"
        for operation in operations(settings)
    ]
    return "\n".join(rows) + "\n"


def _block(text: str) -> str:
    return f"```text\n{text}```\n"


PARTS: dict[tuple[str, str], Callable[[], str]] = {
    ("docs/internals/modules.md", "modules"): modules,
    ("docs/topics.md", "topics table"): topics_table.table,
    ("docs/topics.md", "topics diagram"): lambda: _block(topics_table.diagram()),
    ("docs/http.md", "roles"): role_table,
    ("docs/http.md", "problems"): problem_catalogue.table,
    ("docs/settings.md", "settings"): settings_table.tables,
    ("docs/operations.md", "metrics"): metric_table,
    ("docs/operations.md", "log events"): log_event_table,
    ("docs/figures.md", "bench"): bench_table,
}

UNMARKED = (topics_table.table, topics_table.diagram, settings_table.tables)
"""What the command line prints of it."""


def published() -> dict[str, str]:
    """Files that are generated as a whole, by their path from the root."""
    # Without the environment of whoever makes them.
    defaults = Settings.model_construct()
    made = {
        "docs/asyncapi.json": json_schemas.text(asyncapi.document(defaults)),
        "docs/openapi.json": json_schemas.text(interface(defaults)),
    }
    return made | {
        f"docs/schemas/{name}": json_schemas.text(schema)
        for name, schema in json_schemas.files().items()
    }


def between(text: str, name: str) -> tuple[str, str, str]:
    """(before, between, after) the markers of a part, which stand there once."""
    begin, end = f"<!-- generated: {name} -->\n\n", f"\n<!-- end of {name} -->\n"
    before, _, rest = text.partition(begin)
    inside, found, after = rest.partition(end)
    assert found, f"no markers of {name!r}"
    assert begin not in after, f"markers of {name!r} more than once"
    return before + begin, inside, end + after


def main() -> None:
    """Regenerate every part."""
    for (file, name), make in PARTS.items():
        path = ROOT / file
        before, inside, after = between(path.read_text(encoding="utf-8"), name)
        made = make()
        path.write_text(before + made + after, encoding="utf-8")
        sys.stdout.write(f"{file}: {name} {'as it was' if inside == made else 'written'}\n")
    for file, text in published().items():
        path = ROOT / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
