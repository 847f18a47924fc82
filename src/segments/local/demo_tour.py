"""The tour of the demo: each step calls the running service and checks the results."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from segments.contracts.times import from_rfc3339
from segments.contracts.topics import USER_EVENTS_TOPIC
from segments.local.demo_client import TIMEOUT_S, DemoClient, Stopped
from segments.settings import Settings

_MEMBERS = 300
_TTL_S = 2
_REPORT_LINES = 5


class Tour:
    """The steps in order. Later steps use the users and segments of earlier ones."""

    def __init__(
        self, settings: Settings, base_url: str, console: Console, stopping: threading.Event
    ) -> None:
        self._client = DemoClient(settings, base_url, stopping)
        self._settings = settings
        self._base_url = base_url
        self._console = console
        self._stopping = stopping
        self._users: list[str] = []

    def run(self) -> None:
        """Run every step. TourFailed at the first unexpected result."""
        steps = [
            self._users_follow_events,
            self._commands_from_any_client,
            self._rejection,
            self._write_over_http,
            self._expiry,
            self._deleted_user,
            self._share,
            self._history,
            self._report,
        ]
        with self._client.http:
            for step in steps:
                if self._stopping.is_set():
                    raise Stopped
                step()
            self._print_suggestions()

    def _users_follow_events(self) -> None:
        self._print_title(
            "Users: events carry only an id, the state is fetched from the user service"
        )
        base_url = self._settings.user_service.base_url or ""
        listed = httpx.get(f"{base_url}/users", timeout=30).raise_for_status()
        self._users = listed.text.split()
        self._client.expect(len(self._users) > _MEMBERS, f"users, found {len(self._users)}")
        started = time.monotonic()
        for user_id in self._users:
            self._client.produce(
                self._client.default, USER_EVENTS_TOPIC, None, {"user_id": user_id}
            )
        self._client.flush()
        self._client.until(
            lambda: self._count_known() == len(self._users), "every user in the replica"
        )
        self._print_done(
            f"{len(self._users)} events produced, {self._count_known()} users in the replica",
            started,
        )

    def _count_known(self) -> int:
        answer = self._client.post("/v1/memberships/query", {"user_ids": self._users})
        return sum(1 for user in answer["items"] if user.get("account") == "active")

    def _commands_from_any_client(self) -> None:
        self._print_title(
            "Commands: from clients with different partitioners, with and without keys"
        )
        started = time.monotonic()
        for name in ("newsletter", "beta", "trial"):
            self._client.command("create_segment", segment=name, description=f"the {name} segment")
        members = self._users[:_MEMBERS]
        for number, user_id in enumerate(members):
            add = ["newsletter", "beta"] if number % 2 else ["newsletter"]
            producer = self._client.default if number % 3 else self._client.java_like
            key = None if number % 5 == 0 else user_id
            self._client.command(
                "change_memberships", producer=producer, key=key, user_id=user_id, add=add
            )
        self._client.flush()
        query = {"user_ids": members, "segments": ["newsletter"]}

        def all_in() -> bool:
            items = self._client.post("/v1/memberships/query", query)["items"]
            return sum(1 for item in items if item.get("segments")) == len(members)

        self._client.until(all_in, "every membership to be visible over HTTP")
        elapsed_s = self._print_done(
            f"{len(members)} commands produced and visible over HTTP", started
        )
        table = Table("user", "account", "segments")
        for user_id in members[:3]:
            document = self._client.get(f"/v1/users/{user_id}/segments")
            names = [membership["segment"] for membership in document["segments"]]
            self._client.expect("newsletter" in names, f"{user_id} has newsletter, found {names}")
            table.add_row(user_id, document["account"], ", ".join(names))
        self._console.print(table)
        self._client.expect(elapsed_s < TIMEOUT_S, f"at most {TIMEOUT_S:.0f} s")

    def _rejection(self) -> None:
        self._print_title("Atomic commands: one unknown segment rejects the whole command")
        user_id = self._users[0]
        command_id = self._client.command(
            "change_memberships",
            user_id=user_id,
            add=["trial", "no-such-segment"],
            remove=["newsletter"],
        )
        self._client.flush()
        result = self._client.result(command_id)
        self._client.expect(result["status"] == "rejected", f"a rejection, found {result}")
        self._client.expect(
            result["error"]["code"] == "segment_unknown", f"segment_unknown, found {result}"
        )
        names = self._client.segments(user_id)
        self._client.expect(
            "newsletter" in names and "trial" not in names, f"no change, found {names}"
        )
        self._print_json(result)

    def _write_over_http(self) -> None:
        self._print_title(
            "HTTP: the response is the result; a position token gives read-your-writes"
        )
        user_id = self._users[1]
        started = time.monotonic()
        response = self._client.http.patch(
            f"/v1/users/{user_id}/segments", json={"add": ["trial"], "remove": ["beta"]}
        )
        self._client.expect(response.status_code == httpx.codes.OK, f"200, found {response.text}")
        result = response.json()
        self._print_done(f"{result['status']}: {result['changes']}", started)
        read = self._client.http.get(
            f"/v1/users/{user_id}/segments", headers={"Segments-Min-Position": result["position"]}
        )
        names = [membership["segment"] for membership in read.json()["segments"]]
        self._client.expect("trial" in names and "beta" not in names, f"the write, found {names}")
        for header in ("Segments-Position", "Segments-Staleness-Ms"):
            self._console.print(f"  {header}: {read.headers[header]}")
        self._console.print("  a membership with its start, end and cause:")
        self._print_json(self._client.get(f"/v1/users/{user_id}/segments/trial"))

    def _expiry(self) -> None:
        self._print_title(f"Expiry: a membership with a TTL of {_TTL_S} s ends exactly on time")
        user_id = self._users[2]
        response = self._client.http.patch(
            f"/v1/users/{user_id}/segments", json={"add": [{"segment": "trial", "ttl": _TTL_S}]}
        )
        self._client.expect(response.status_code == httpx.codes.OK, f"200, found {response.text}")
        membership = self._client.get(f"/v1/users/{user_id}/segments/trial")
        end_ms = from_rfc3339(membership["expires_at"])
        self._console.print(f"  expires at {membership['expires_at']}")
        self._client.until(
            lambda: "trial" not in self._client.segments(user_id), "the membership to end"
        )
        late_ms = round(time.time() * 1000) - end_ms
        self._client.expect(late_ms >= 0, f"no end before expires_at, found {late_ms} ms")

        def recorded() -> list[dict[str, Any]]:
            rows = self._client.rows(user_id)
            return [row for row in rows if row["cause"] == "expired"]

        [row] = self._client.until(recorded, "the end to be in the history")
        self._client.expect(from_rfc3339(row["at"]) == end_ms, f"the exact time, found {row}")
        self._console.print(
            f"  ended at {membership['expires_at']}, recorded with exactly that time"
        )

    def _deleted_user(self) -> None:
        self._print_title(
            "Deletion: an event triggers a fetch, and every membership of the user ends"
        )
        user_id = self._users[3]
        base_url = self._settings.user_service.base_url or ""
        httpx.delete(f"{base_url}/users/{user_id}", timeout=30).raise_for_status()
        self._client.produce(self._client.default, USER_EVENTS_TOPIC, None, {"user_id": user_id})
        self._client.flush()
        path = f"/v1/users/{user_id}/segments"

        def gone() -> bool:
            response = self._client.http.get(path)
            return bool(response.status_code == 404 and response.json()["code"] == "user_deleted")

        self._client.until(gone, "the user to be deleted")
        causes = self._client.until(
            lambda: [row for row in self._client.rows(user_id) if row["cause"] == "user_deleted"],
            "the removals to be in the history",
        )
        self._console.print(f"  404 user_deleted, {len(causes)} removals in the history")

    def _share(self) -> None:
        self._print_title(
            "Automatic assignment: exactly 10 % of the users, then 25 %; no member is removed"
        )
        preview = self._client.post("/v1/segments/preview", {"auto": {"percent": 10}})
        self._console.print(f"  preview: {preview}")
        started = time.monotonic()
        self._client.post(
            "/v1/segments", {"segment": "rollout", "auto": {"percent": 10}}, expected=201
        )
        first = self._members_at(preview["target"])
        self._print_done(f"{len(first)} of {preview['eligible']} users are in rollout", started)
        started = time.monotonic()
        path = "/v1/segments/rollout"
        self._client.expect(
            self._client.http.patch(path, json={"auto": {"percent": 25}}).status_code
            == httpx.codes.OK,
            "the percentage to be raised",
        )
        more = self._members_at((preview["eligible"] * 25 + 50) // 100)
        self._client.expect(first <= more, "no member to be removed")
        self._print_done(f"{len(more)} are in rollout, including the first {len(first)}", started)

    def _members_at(self, target: int) -> set[str]:
        """The members of rollout, once the assignment is complete with `target` of them."""

        def done() -> set[str] | None:
            segment = self._client.get("/v1/segments/rollout")
            if segment["state"] != "active" or segment["size"] != target:
                return None
            page = self._client.get("/v1/segments/rollout/users?limit=1000")
            return {member["user_id"] for member in page["items"]}

        members = self._client.until(done, f"{target} users in rollout")
        self._client.expect(len(members) == target, f"{target} members, found {len(members)}")
        return members

    def _history(self) -> None:
        self._print_title("History: every change with its time and cause")
        table = Table("at", "segment", "operation", "cause", "command")
        rows = self._client.rows(self._users[1])
        by_command = [row for row in rows if row["cause"] == "command"]
        self._client.expect(len(by_command) == 4, f"4 changes by commands, found {rows}")
        for row in rows:
            command = row["command_id"] or ""
            table.add_row(row["at"], row["segment"], row["operation"], row["cause"], command)
        self._console.print(table)

    def _report(self) -> None:
        self._print_title("Report: a link that streams the month as CSV")
        month = datetime.now(UTC).strftime("%Y-%m")
        url = self._client.post("/v1/reports", {"month": month}, expected=201)["url"]
        started = time.monotonic()
        response = httpx.get(url, timeout=60)
        self._client.expect(response.status_code == httpx.codes.OK, f"200, found {response.text}")
        lines = response.text.splitlines()
        expected = int(response.headers["Segments-Row-Count"])
        self._client.expect(len(lines) == expected, f"{expected} rows, found {len(lines)}")
        self._client.expect(expected > _MEMBERS, f"more than {_MEMBERS} rows, found {expected}")
        self._print_done(f"{url}: {expected} rows", started)
        for line in lines[:_REPORT_LINES]:
            self._console.print(f"  {line}")

    def _print_suggestions(self) -> None:
        url, user_id = self._base_url, self._users[0]
        user = f"{url}/v1/users/{user_id}/segments"
        add = json.dumps({"add": [{"segment": "trial", "ttl": "PT1M"}]})
        self._print_title("Try it")
        for line in (
            f"curl -i {user}",
            f"curl -X PATCH -H 'Content-Type: application/json' -d '{add}' {user}",
            f"curl {url}/v1/users/{user_id}/history",
            f"curl {url}/v1/segments",
            f"curl {url}/dev/users/{user_id}",
            f"curl {url}/metrics",
        ):
            self._console.print(f"  {line}", soft_wrap=True, markup=False)
        self._console.print(f"  all routes, in a browser: {url}/docs")

    def _print_title(self, text: str) -> None:
        self._console.print()
        self._console.rule(f"[bold]{text}[/]", align="left")

    def _print_done(self, text: str, started_s: float) -> float:
        elapsed_s = time.monotonic() - started_s
        self._console.print(f"  [green]✓[/] {text} ({elapsed_s * 1000:.0f} ms)")
        return elapsed_s

    def _print_json(self, value: Any) -> None:
        self._console.print_json(json.dumps(value), indent=2)
