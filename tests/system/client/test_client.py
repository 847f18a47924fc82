"""The client against the running service."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from segments import client as client_errors
from segments.client import Add, AsyncSegmentsClient, Rule, SegmentsClient
from segments.client.users import QUERY_USERS
from tests.support.api import Api
from tests.support.deployments import wait_until


def _ids(number: int) -> Iterator[str]:
    return (str(uuid.uuid4()) for _ in range(number))


def test_writes_are_readable_with_their_cause(client: SegmentsClient, api: Api) -> None:
    user, plain, ending = api.user(), api.segment(), api.segment()
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(days=7)
    session = client.session()
    result = session.change(user, add=[plain, Add(ending, expires_at=end)])
    assert result.status == "applied"
    assert {(each.segment, each.operation) for each in result.changes} == {
        (plain, "add"),
        (ending, "add"),
    }
    found = session.user_segments(user)
    assert found.names == sorted([plain, ending])
    assert plain in found
    assert found.account == "active"
    assert found.position is not None
    assert found.staleness_ms is not None
    assert {each.segment: each.expires_at for each in found.segments} == {plain: None, ending: end}
    detail = session.membership(user, ending)
    assert detail.expires_at == end
    assert detail.why is not None
    assert detail.why.began.command_id == result.command_id


def test_ttl_accepts_timedelta_and_iso_duration(client: SegmentsClient, api: Api) -> None:
    user, first, second = api.user(), api.segment(), api.segment()
    client.change(user, add=[Add(first, ttl=timedelta(hours=1)), Add(second, ttl="PT1H")])
    memberships = client.user_segments(user).segments
    assert [each.expires_at - each.since for each in memberships if each.expires_at] == [
        timedelta(hours=1)
    ] * 2


def test_repeated_key_has_no_further_effect(client: SegmentsClient, api: Api) -> None:
    user, segment, key = api.user(), api.segment(), str(uuid.uuid4())
    first = client.change(user, add=[segment], idempotency_key=key)
    client.change(user, remove=[segment])
    assert client.change(user, add=[segment], idempotency_key=key) == first
    assert client.user_segments(user).names == []


def test_rejection_has_its_code_and_result(client: SegmentsClient, api: Api) -> None:
    segment = api.segment()
    expired = Add(segment, expires_at="2020-01-01T00:00:00Z")
    with pytest.raises(client_errors.RejectedError) as raised:
        client.change(api.user(), add=[expired])
    assert raised.value.code == "already_expired"
    assert raised.value.segments == (segment,)
    assert raised.value.status == 422
    assert client.result(raised.value.command_id or "").status == "rejected"


def test_invalid_fields_are_named(client: SegmentsClient, api: Api) -> None:
    with pytest.raises(client_errors.InvalidError) as raised:
        client.change(api.user(), add=[{"segment": "a", "ttl": "nonsense"}], remove=["../x"])
    assert {each.field for each in raised.value.fields} >= {"add.0.ttl", "remove.0"}


@pytest.mark.parametrize("user", ["x", "../../etc", ""])
def test_invalid_user_id_is_not_sent(client: SegmentsClient, user: str) -> None:
    with pytest.raises(client_errors.InvalidError, match="a user id must be a UUID"):
        client.user_segments(user)


def test_unknown_and_deleted_users_raise_different_codes(client: SegmentsClient, api: Api) -> None:
    for user, code in ((str(uuid.uuid4()), "user_unknown"), (api.user("deleted"), "user_deleted")):
        with pytest.raises(client_errors.NotFoundError) as raised:
            client.user_segments(user)
        assert raised.value.code == code


def test_history_is_paginated(client: SegmentsClient, api: Api) -> None:
    user, segment = api.user(), api.segment()
    session = client.session()
    for _ in range(3):
        session.change(user, add=[segment])
        session.change(user, remove=[segment])
    rows = session.history(user, page_size=2)
    operations = [row.operation for row in rows]
    assert operations == ["remove", "add"] * 3
    newest = next(iter(session.history(user)))
    assert list(session.history(user, until=newest.at, since=newest.at)) == []
    assert next(iter(session.history(user, since=newest.at))) == newest


def test_past_memberships_are_queried_by_time(client: SegmentsClient, api: Api) -> None:
    user, segment = api.user(), api.segment()
    added = client.change(user, add=[segment])
    removed = client.change(user, remove=[segment])
    past = client.user_segments(user, at=added.at)
    assert past.names == [segment]
    assert past.at == added.at
    assert client.user_segments(user, at=removed.at).names == []


def test_query_of_many_users_is_chunked(client: SegmentsClient, api: Api) -> None:
    user, segment = api.user(), api.segment()
    session = client.session()
    session.change(user, add=[segment])
    user_ids = [*_ids(QUERY_USERS), user, *_ids(5)]
    items = session.query(user_ids)
    found = list(items)
    assert [each.user_id for each in found] == user_ids
    assert [each.names for each in found if each.error is None] == [[segment]]
    assert items.freshness.staleness_ms is not None


def test_segment_lifecycle(client: SegmentsClient, api: Api) -> None:
    name = f"life-{uuid.uuid4().hex[:8]}"
    created = client.create_segment(name, description="first")
    assert (created.segment, created.state, created.description) == (name, "active", "first")
    with pytest.raises(client_errors.ConflictError, match="segment_exists"):
        client.create_segment(name)
    session = client.session()
    assert session.update_segment(name, description="second").version == 2
    assert session.segment(name).description == "second"
    assert name in [each.segment for each in session.segments(page_size=3)]
    assert session.delete_segment(name).referenced_by == ()
    for call in (session.segment, session.delete_segment):
        with pytest.raises(client_errors.NotFoundError, match="segment_unknown"):
            call(name)


def test_rule_assigns_a_percentage_of_users(client: SegmentsClient, api: Api) -> None:
    pool, chosen = api.segment("pool"), f"half-{uuid.uuid4().hex[:8]}"
    users = [api.user() for _ in range(4)]
    session = client.session()
    for user in users:
        session.change(user, add=[pool])
    rule = Rule(percent=50, include=[pool], ttl=timedelta(days=1), newcomers=False)
    preview = session.preview_segment(rule)
    assert (preview.eligible, preview.target) == (4, 2)
    created = session.create_segment(chosen, auto=rule)
    assert created.auto is not None
    assert created.auto.percent == 50
    wait_until(lambda: session.segment(chosen).state == "active", what="the assignment")

    def both() -> list[client_errors.Member] | None:
        # The view may receive the members later than the segment's state.
        found = list(session.members(chosen))
        return found if len(found) == 2 else None

    members = wait_until(both, what="both members")
    assert {member.user_id for member in members} < set(users)
    assert all(member.origin == "auto" and member.expires_at for member in members)
    with pytest.raises(client_errors.RejectedError, match="percent_shrinks"):
        session.update_segment(chosen, auto=Rule(percent=25, include=[pool]))
    with pytest.raises(client_errors.NotFoundError):
        list(session.members("no-such"))


def test_abandoned_iterator_releases_its_connection(running: object, api: Api) -> None:
    segment = api.segment()
    for _ in range(3):
        api.changed(api.user(), add=[segment])
    with SegmentsClient(api.url, connections=1) as client:
        for _ in range(3):
            with client.members(segment) as members:
                next(members)
        next(iter(client.members(segment)))
        assert client.health().ready


def test_bulk_commands_return_their_results(client: SegmentsClient, api: Api) -> None:
    user, name = api.user(), f"bulk-{uuid.uuid4().hex[:8]}"
    commands: list[dict[str, Any]] = [
        {"type": "create_segment", "segment": name},
        {"type": "change_memberships", "user_id": user, "add": [name]},
        {"type": "create_segment", "segment": name},
    ]
    key = str(uuid.uuid4())
    accepted = client.send_commands(commands, idempotency_key=key)
    assert client.send_commands(commands, idempotency_key=key) == accepted
    assert accepted.accepted == 3
    session = client.session()
    found = list(session.results(accepted.command_ids))
    assert [each.status for each in found] == ["applied", "applied", "rejected"]
    assert session.user_segments(user).names == [name]


def test_invalid_commands_are_named_by_line(client: SegmentsClient) -> None:
    valid = {"type": "create_segment", "segment": "a"}
    with pytest.raises(client_errors.InvalidError) as raised:
        client.send_commands([valid, {"type": "create_segment"}])
    assert [(each.line, each.field) for each in raised.value.fields] == [(2, "segment")]
    with pytest.raises(client_errors.InvalidError, match="1 to 10000"):
        client.send_commands([])


def test_unknown_command_raises_not_found(client: SegmentsClient) -> None:
    with pytest.raises(client_errors.NotFoundError, match="command_unknown"):
        client.result("never/sent?at=all", timeout_s=0)


def test_report_is_saved(client: SegmentsClient, api: Api, tmp_path: Path) -> None:
    user, segment = api.user(), api.segment()
    session = client.session()
    at = session.change(user, add=[segment]).at
    month = f"{at:%Y-%m}"
    target = tmp_path / "report.csv"
    assert session.save_report(target, month, user_id=user, header=True) == 1
    header, row = target.read_text().splitlines()
    assert header == "user;segment;operation;datetime"
    assert row.startswith(f"{user};{segment};add;")
    downloaded = httpx.get(session.report_link(month, user_id=user, header=True), timeout=60)
    assert downloaded.content == target.read_bytes()
    assert b"".join(session.report(month, segment=segment)).startswith(user.encode())
    with pytest.raises(client_errors.NotFoundError, match="month_in_future"):
        client.report_link("2999-01")


def test_users_are_set_deleted_and_imported(client: SegmentsClient, tmp_path: Path) -> None:
    user, other, third = _ids(3)
    session = client.session()
    assert session.set_user_state(user, "blocked").state == "blocked"
    assert session.user_state(user).state == "blocked"
    assert session.delete_user(user).state == "deleted"
    file = tmp_path / "users.csv"
    file.write_text(f"user_id;state\n{other};active\nx;active\n")
    sent: list[int] = []
    counts = session.import_users(file, progress=sent.append)
    assert (counts.accepted, counts.refused) == (1, 1)
    assert counts.errors[0].line == 3
    assert sum(sent) == file.stat().st_size
    imported: dict[str, Literal["active"]] = {third: "active"}
    assert session.import_users(imported).accepted == 1
    wait_until(lambda: _state(session, other) == _state(session, third) == "active", what="both")


def _state(client: SegmentsClient, user: str) -> str | None:
    try:
        return client.user_state(user).state
    except client_errors.NotFoundError:
        return None


def test_health_lists_partitions(client: SegmentsClient) -> None:
    def healthy() -> client_errors.Health | None:
        found = client.health()
        return found if found.ready else None

    found = wait_until(healthy, what="health")
    assert found.checks == {"feed": "ok", "view": "ok", "history": "ok"}
    assert sorted(found.partitions) == list(range(4))
    assert all(each.staleness_ms >= 0 for each in found.partitions.values())


async def test_async_client_has_the_same_behaviour(api: Api, tmp_path: Path) -> None:
    user, segment = api.user(), api.segment()
    async with AsyncSegmentsClient(api.url) as client:
        session = client.session()
        at = (await session.change(user, add=[segment])).at
        assert (await session.user_segments(user)).names == [segment]
        rows = [row async for row in session.history(user, page_size=1)]
        assert [row.segment for row in rows] == [segment]
        assert [each.names async for each in session.query([user])] == [[segment]]
        async with session.members(segment) as members:
            assert [member.user_id async for member in members] == [user]
        target = tmp_path / "report.csv"
        assert await session.save_report(target, f"{at:%Y-%m}", user_id=user) == 1
        file = tmp_path / "users.ndjson"
        file.write_text(f'{{"user_id": "{user}", "state": "active"}}\n')
        assert (await session.import_users(file)).accepted == 1
