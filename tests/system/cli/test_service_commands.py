"""`segments user`, `segments segment`, `report`, `users import`, `result` on a running service."""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import Any

from tests.support.api import Api
from tests.support.deployments import wait_until
from tests.support.shell import Shell

INSTANT = r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z"


def test_user_is_changed_and_shown(shell: Shell, api: Api) -> None:
    user, plain, ending, former = api.user(), api.segment(), api.segment("a:b"), api.segment()
    api.changed(user, add=[former])
    printed = shell.text(
        "user", "change", user, "--add", plain, "--add", f"{ending}:P7D", "--remove", former
    )
    assert f"added to {plain}\nadded to {ending}\nremoved from {former}\napplied: " in printed
    command_id = re.search(r"command (\S+),", printed)
    assert command_id is not None
    assert shell.json("result", command_id[1])["status"] == "applied"

    document = shell.json("user", "show", user)
    assert {each["segment"] for each in document["segments"]} == {plain, ending}
    assert all(re.fullmatch(INSTANT, each["since"]) for each in document["segments"])
    assert document["staleness_ms"] >= 0

    table = shell.text("user", "show", user.upper())
    assert re.search(rf"{plain} +\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC +never +command", table)
    assert re.search(rf"{ending} .*\(in 6 d 23 h\)", table)
    assert "2 segments, account active, as of" in table

    def has_cause() -> bool:
        detail = shell.json("user", "show", user, "--segment", ending)
        return detail["why"] is not None and detail["why"]["began"]["operation"] == "add"

    wait_until(has_cause, what="the history")
    why = shell.text("user", "show", user, "--segment", ending)
    assert f"cause command, command {command_id[1]}" in why
    at = document["segments"][0]["since"]
    past = shell.json("user", "show", user, "--at", at)
    assert {each["segment"] for each in past["segments"]} == {plain, ending}


def test_history_is_listed_newest_first(shell: Shell, api: Api) -> None:
    user, segment = api.user(), api.segment()
    position = [api.changed(user, **{do: [segment]}) for do in ("add", "remove")][-1]["position"]
    wait_until(lambda: api.history(user, position).status_code == 200, what="the history")
    rows = shell.ndjson("user", "history", user)
    assert [row["operation"] for row in rows] == ["remove", "add"]
    assert shell.ndjson("user", "history", user, "--limit", "1") == rows[:1]
    assert shell.ndjson("user", "history", user, "--to", rows[1]["at"]) == []
    table = shell.text("user", "history", user)
    assert table.index("remove") < table.index("add ")


def test_rejection_prints_code_and_segment(shell: Shell, api: Api) -> None:
    user, segment = api.user(), api.segment()
    stderr = shell.fail("user", "change", user, "--add", f"{segment}@2020-01-01T00:00:00Z")
    assert "already_expired" in stderr
    assert segment in stderr
    assert "user_unknown" in shell.fail("user", "show", str(uuid.uuid4()))


def test_segment_lifecycle(shell: Shell, api: Api) -> None:
    name = f"cli-{uuid.uuid4().hex[:8]}"
    assert shell.json("segment", "create", name, "--description", "first")["state"] == "active"
    assert "segment_exists" in shell.fail("segment", "create", name)
    assert shell.json("segment", "update", name, "--description", "second")["version"] == 2
    assert "second" in shell.text("segment", "show", name)
    assert name in {each["segment"] for each in shell.ndjson("segment", "list")}
    assert name in shell.text("segment", "list")
    assert shell.json("segment", "delete", name)["referenced_by"] == []
    assert "segment_unknown" in shell.fail("segment", "delete", name)


def test_rule_update_keeps_other_options(shell: Shell, api: Api) -> None:
    pool, name = api.segment("pool"), f"rule-{uuid.uuid4().hex[:8]}"
    users = [api.user() for _ in range(4)]
    for user in users:
        api.changed(user, add=[pool])
    rule = ("--include", pool, "--ttl", "P7D", "--newcomers")
    # Previews and assignments use the state of the shards, which is up to date by now.
    assert shell.text("segment", "preview", "--percent", "50", *rule) == (
        "4 eligible, 2 would be selected\n"
    )
    created = shell.json("segment", "create", name, "--percent", "50", *rule, "--wait")
    assert (created["state"], created["auto"]["assigned"]) == ("active", 2)
    raised = shell.json("segment", "update", name, "--percent", "75", "--wait")
    assert raised["auto"]["assigned"] == 3
    assert (raised["auto"]["include"], raised["auto"]["newcomers"]) == ([pool], True)
    assert "75 %, in " in shell.text("segment", "show", name)

    def all_three() -> list[Any] | None:
        # The view may receive the members later than the segment's state.
        found: list[Any] = shell.ndjson("segment", "members", name)
        return found if len(found) == 3 else None

    members = wait_until(all_three, what="three members")
    listed = shell.text("segment", "members", name).splitlines()
    assert [line[:36] for line in listed[1:]] == [member["user_id"] for member in members]
    assert len(shell.ndjson("segment", "members", name, "--limit", "2")) == 2


def test_report_is_written_to_a_file_or_stdout(shell: Shell, api: Api, tmp_path: Path) -> None:
    user, segment = api.user(), api.segment()
    at = api.changed(user, add=[segment])["at"]
    month, target = at[:7], tmp_path / "report.csv"
    expected = f"{user};{segment};add;{at}\n"
    arguments = (month, "--user", user, "--segment", segment)
    outcome = shell.json("report", *arguments, "-o", str(target))
    assert outcome == {"rows": 1, "file": str(target)}
    assert target.read_text() == expected
    assert shell.text("report", *arguments) == expected
    [row] = shell.ndjson("report", *arguments)
    assert row == {"user": user, "segment": segment, "operation": "add", "datetime": at}
    assert shell.text("report", *arguments, "--link").startswith(
        f"{api.url}/v1/reports/{month}.csv?"
    )


def test_users_are_imported(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "users.csv"
    file.write_text(f"{uuid.uuid4()};active\n")
    assert shell.json("users", "import", str(file)) == {
        "accepted": 1,
        "refused": 0,
        "errors": [],
    }
    file.write_text(f"{uuid.uuid4()};active\nx;active\n")
    finished = shell.run("users", "import", str(file))
    assert finished.returncode == 1
    assert "1 users accepted, 1 lines rejected\n" in finished.stdout
    assert "line 2: user_id: a user id must be a UUID" in finished.stdout
