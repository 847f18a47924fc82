"""docs/http.md names exactly the existing routes, headers and problem codes."""

from __future__ import annotations

import ast
import re
from typing import get_args

from aiohttp import web

from segments.contracts.documents import ErrorCode
from segments.http import app, problems
from segments.http.routes import developer, imports
from segments.http.routing import headers
from tests.support.docs.reading import read, table
from tests.support.paths import ROOT

TEXT = read("docs/http.md")
# What these answer with comes from a result, from aiohttp, or from the kinds of problems.
CODES_FROM_ELSEWHERE = {"rejection", "from_http", "example"}


def _registered() -> set[tuple[str, str]]:
    return {
        (operation.method, operation.path)
        for module in (*app.ROUTES, imports, developer)
        for operation in module.routes.operations
    }


def test_every_route_stands_in_the_table() -> None:
    documented = {
        (method, path.strip("`")) for method, path, _ in table(TEXT, "method", "path", "answer")
    }
    assert documented == _registered()


def test_every_header_stands_in_the_table() -> None:
    names = " ".join(row[0] for row in table(TEXT, "header", "in", "meaning"))
    ours = {
        headers.POSITION,
        headers.STALENESS,
        headers.MIN_POSITION,
        headers.COMPLETE_UNTIL,
        headers.ROW_COUNT,
        headers.IDEMPOTENCY_KEY,
    }
    assert {header for header in ours if f"`{header}`" not in names} == set()
    assert set(re.findall(r"Segments-[A-Za-z-]+", TEXT)) <= ours


def _raised() -> set[tuple[str, str]]:
    """(code, status) of every problem that http/ makes with its code given literally."""
    found = set()
    for path in (ROOT / "http").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            if node.name not in CODES_FROM_ELSEWHERE:
                found |= {_literal(call) for call in _problems(node)}
    return found


def _problems(function: ast.AST) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", getattr(node.func, "attr", None)) == "Problem"
    ]


def _literal(call: ast.Call) -> tuple[str, str]:
    status, code = call.args[:2]
    assert isinstance(code, ast.Constant), ast.unparse(call)
    # One that is handed on is the library's.
    return str(code.value), str(status.value) if isinstance(status, ast.Constant) else "other"


def _of_the_library() -> set[tuple[str, str]]:
    refusals = (
        web.HTTPNotFound(),
        web.HTTPMethodNotAllowed("GET", ["POST"]),
        web.HTTPRequestEntityTooLarge(1, 2),
        web.HTTPExpectationFailed(),
    )
    made_of = [problems.from_http(refusal) for refusal in refusals]
    return {(p.code, "other" if p.code == "http_error" else str(p.status)) for p in made_of}


def test_every_problem_stands_in_the_table_with_its_status() -> None:
    documented = {
        (code.strip("`"), status) for code, status, _ in table(TEXT, "code", "status", "when")
    }
    conflicts = ("segment_exists", "assigning")
    rejected = {(code, "422") for code in get_args(ErrorCode) if code not in conflicts}
    # What the path names and is not there, or is there already, or is being changed.
    addressed = {("segment_unknown", "404")} | {(code, "409") for code in conflicts}
    assert documented == _raised() | _of_the_library() | rejected | addressed


def test_the_codes_of_a_rejection_are_those_of_a_result() -> None:
    documented = {code.strip("`") for code, _ in table(read("docs/topics.md"), "code", "meaning")}
    assert documented == set(get_args(ErrorCode))
