"""A public class or constant name at module level has one meaning in the whole code."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.support.paths import ROOT

PACKAGES = ("src/segments", "streams", "state", "http")
_PUBLIC = re.compile(r"[A-Z]")
MIRRORED = {"client/models.py", "contracts/responses", "contracts/documents.py"}
"""The client's models mirror the contracts: one name for one document on both sides."""
EXCEPTIONS = {
    "Membership": "the same membership in the client, in documents and in responses",
    "NAME": "the name of an application, in the module of each",
    "Rule": "the client's input mirrors the rule of the contract",
}
"""Names that are defined in several modules with one meaning, and why."""


def definitions() -> dict[str, set[str]]:
    """Public name -> the modules that define it, as paths below src/segments."""
    found: dict[str, set[str]] = defaultdict(set)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            module = str(path.relative_to(ROOT)).removeprefix("src/segments/")
            for name in _names(path):
                found[name].add(module)
    return found


def _names(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign) and not _is_type_variable(node.value):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        else:
            continue
        yield from (name for name in names if _PUBLIC.match(name))


def _is_type_variable(value: ast.expr) -> bool:
    return (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Name)
        and value.func.id in ("TypeVar", "ParamSpec")
    )


def _is_mirrored(modules: set[str]) -> bool:
    """Whether a name is defined in the client's models and in one module of the contracts."""
    return (
        len(modules) == 2
        and "client/models.py" in modules
        and all(module.startswith(tuple(MIRRORED)) for module in modules)
    )


def test_a_public_name_has_one_meaning() -> None:
    repeated = [
        f"{name}: {', '.join(sorted(modules))}"
        for name, modules in sorted(definitions().items())
        if len(modules) > 1 and name not in EXCEPTIONS and not _is_mirrored(modules)
    ]
    assert not repeated, "\n" + "\n".join(repeated)


def test_every_exception_is_needed() -> None:
    found = definitions()
    assert [name for name in EXCEPTIONS if len(found[name]) < 2] == []
