"""The OpenAPI document: valid, and consistent with the routes and their declarations."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from pydantic import BaseModel
from referencing import Registry, Resource
from schemathesis.specs.openapi.definitions import OPENAPI_31

from segments import __version__
from segments.http import app
from segments.http.auth.roles import Role
from segments.http.openapi import document as openapi
from segments.http.routing import headers
from segments.http.routing.operation import JsonBody
from segments.http.routing.problem_catalogue import OTHER, PROBLEM_TYPES
from segments.settings import Settings
from tests.support.sidecar import running

DEV = Settings(dev={"enabled": True})
PLAIN = Settings()
METHODS = ("get", "put", "post", "patch", "delete")


def build_document(settings: Settings = DEV) -> dict[str, Any]:
    return app.interface(settings)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(method, path, operation) of each."""
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield method.upper(), path, item[method]


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a document."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from nodes(inner)


def validator(document: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    """A validator of values for a schema that refers to the document's components."""
    resource = Resource.from_contents(
        document | {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    )
    registry: Registry[Any] = Registry().with_resource("urn:document", resource)
    absolute = json.loads(json.dumps(schema).replace('"#/', '"urn:document#/'))
    return Draft202012Validator(absolute, registry=registry, format_checker=FormatChecker())


@pytest.mark.parametrize("settings", [DEV, PLAIN], ids=["dev", "plain"])
def test_it_is_openapi_3_1(settings: Settings) -> None:
    document = build_document(settings)
    errors = [error.message for error in Draft202012Validator(OPENAPI_31).iter_errors(document)]
    assert errors == []
    assert document["openapi"] == "3.1.1"
    assert document["info"]["version"] == __version__


def test_every_schema_is_valid() -> None:
    document = build_document()
    for name, schema in document["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert schema.get("title", name)
    for node in nodes(document):
        if isinstance(node.get("schema"), dict):
            Draft202012Validator.check_schema(node["schema"])


def test_every_reference_resolves() -> None:
    document = build_document()
    referred = {node["$ref"] for node in nodes(document) if isinstance(node.get("$ref"), str)}
    for reference in referred:
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
    used = {r.rpartition("/")[2] for r in referred if r.startswith("#/components/schemas/")}
    assert used == document["components"]["schemas"].keys()


@pytest.mark.parametrize("dev", [True, False])
async def test_routes_and_document_are_the_same(tmp_path: Path, dev: bool) -> None:
    """Both ways; HEAD comes with GET."""
    settings = Settings(dev={"enabled": dev})
    documented = {(method, path) for method, path, _ in operations(build_document(settings))}
    async with running(tmp_path) as sidecar:
        services = sidecar.services
        object.__setattr__(services, "settings", settings.model_copy(update={"data_dir": tmp_path}))
        built = app.build(services)
    registered = {
        (route.method, route.resource.canonical)
        for route in built.router.routes()
        if route.resource is not None and route.method not in ("HEAD", "*")
    }
    assert documented == registered
    assert any(path.startswith("/dev/") for _, path in documented) is dev


async def test_the_served_document(tmp_path: Path) -> None:
    async with running(tmp_path) as sidecar:
        response = await sidecar.get("/openapi.json")
        assert response.status_code == 200
        assert response.json() == build_document(sidecar.services.settings)
        etag = {"If-None-Match": response.headers["etag"]}
        again = await sidecar.get("/openapi.json", headers=etag)
        assert (again.status_code, again.content) == (304, b"")


def test_every_operation_is_described() -> None:
    document = build_document()
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(ids)) == len(ids)
    tags = {tag["name"] for tag in document["tags"]}
    for method, path, operation in operations(document):
        where = f"{method} {path}"
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", operation["operationId"]), where
        assert operation["summary"].endswith((".", "`.")), where
        assert set(operation["tags"]) <= tags, where
        named = {p["name"] for p in document["paths"][path].get("parameters", [])}
        assert named == set(re.findall(r"\{(\w+)\}", path)), where
        for parameter in operation.get("parameters", []):
            assert parameter.get("description"), (where, parameter)
        for response in operation["responses"].values():
            assert "$ref" in response or response["description"], where


def test_security_is_the_declared_role() -> None:
    settings = Settings(auth={"mode": "keys"}, dev={"enabled": True})
    declared = {(o.method, o.path): o for o in app.operations(settings)}
    for method, path, operation in operations(build_document(settings)):
        route = declared[method, path]
        role = route.required_role(settings.auth)
        if role is Role.OPEN:
            assert operation["security"] == []
            assert "401" not in operation["responses"]
            continue
        assert operation["security"][0] == {"bearer": [str(role)]}
        assert operation["x-required-role"] == role
        assert ({"link": []} in operation["security"]) is route.signed_link
        assert {"401", "403", "429"} <= operation["responses"].keys()
    without = [o["security"] for _, _, o in operations(build_document(PLAIN)) if o["security"]]
    assert all({} in ways for ways in without), "credentials are optional"


def test_every_problem_type_is_declared_by_an_operation() -> None:
    said = set()
    for operation in app.operations(DEV):
        said |= set(openapi.problem_types(operation, operation.required_role(DEV.auth)))
    # Of requests that reach no operation.
    beside = {kind for kind in PROBLEM_TYPES if kind[0] == OTHER}
    beside |= {(405, "method_not_allowed"), (408, "header_timeout"), (431, "head_too_large")}
    assert PROBLEM_TYPES.keys() - said <= beside
    assert said <= PROBLEM_TYPES.keys()


def test_every_header_is_declared_by_an_operation() -> None:
    declared = app.operations(DEV)
    asked = {name for operation in declared for name in operation.headers}
    assert asked == set(headers.REQUEST_HEADERS)
    told = {
        name
        for operation in declared
        for answer in operation.responses.values()
        for name in (*answer.headers, *answer.optional_headers)
    }
    assert told | {"Retry-After", "WWW-Authenticate"} == set(headers.RESPONSE_HEADERS)


def test_every_example_is_valid() -> None:
    document = build_document()
    checked = 0
    for node in nodes(document):
        schema = node.get("schema")
        if not isinstance(schema, dict):
            continue
        examples = [inner["value"] for inner in node.get("examples", {}).values()]
        examples += [node["example"]] if "example" in node else []
        for example in examples:
            validator(document, schema).validate(example)
            checked += 1
    for name, schema in document["components"]["schemas"].items():
        for example in schema.get("examples", []):
            validator(document, {"$ref": f"#/components/schemas/{name}"}).validate(example)
            checked += 1
    assert checked > 50


def test_every_example_body_is_valid() -> None:
    bodies = [o.body for o in app.operations(DEV) if isinstance(o.body, JsonBody)]
    assert bodies
    for body in bodies:
        assert body.examples, body.model
        assert issubclass(body.model, BaseModel)
        for example in body.examples.values():
            body.model.model_validate(example)


def test_headers_have_no_examples() -> None:
    """The page would send them: a position of another deployment, or a used key."""
    for _, _, operation in operations(build_document()):
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "header":
                assert not {"example", "examples"} & parameter.keys()
                assert "default" not in parameter["schema"]
                assert "For example `" in parameter["description"]
