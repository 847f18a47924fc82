"""What the demo shows: each step acts on the running service and checks what comes out."""

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


class Show:
    """The steps in order. They share what they made: users, segments, commands."""

    def __init__(
        self, settings: Settings, base_url: str, console: Console, stopping: threading.Event
    ) -> None:
        self._at = DemoClient(settings, base_url, stopping)
        self._settings = settings
        self._base_url = base_url
        self._console = console
        self._stopping = stopping
        self._users: list[str] = []

    def run(self) -> None:
        """Every step; ShowFailed at the first that does not give what it should."""
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
        with self._at.http:
            for step in steps:
                if self._stopping.is_set():
                    raise Stopped
                step()
            self._say_what_to_try()

    def _users_follow_events(self) -> None:
        self._title("Users: events carry only an id; the state is fetched from the user service")
        base_url = self._settings.user_service.base_url or ""
        listed = httpx.get(f"{base_url}/users", timeout=30).raise_for_status()
        self._users = listed.text.split()
        self._at.expect(len(self._users) > _MEMBERS, f"users, found {len(self._users)}")
        began = time.monotonic()
        for user_id in self._users:
            self._at.produce(self._at.default, USER_EVENTS_TOPIC, None, {"user_id": user_id})
        self._at.flush()
        self._at.until(lambda: self._known() == len(self._users), "every user in the replica")
        self._done(f"{len(self._users)} events in, {self._known()} users known", began)

    def _known(self) -> int:
        answer = self._at.post("/v1/memberships/query", {"user_ids": self._users})
        return sum(1 for user in answer["items"] if user.get("account") == "active")

    def _commands_from_any_client(self) -> None:
        self._title("Commands: from Java-like and other clients, with keys and without")
        began = time.monotonic()
        for name in ("newsletter", "beta", "trial"):
            self._at.command("create_segment", segment=name, description=f"the {name} segment")
        members = self._users[:_MEMBERS]
        for number, user_id in enumerate(members):
            add = ["newsletter", "beta"] if number % 2 else ["newsletter"]
            producer = self._at.default if number % 3 else self._at.java_like
            key = None if number % 5 == 0 else user_id
            self._at.command(
                "change_memberships", producer=producer, key=key, user_id=user_id, add=add
            )
        self._at.flush()
        query = {"user_ids": members, "segments": ["newsletter"]}

        def all_in() -> bool:
            items = self._at.post("/v1/memberships/query", query)["items"]
            return sum(1 for item in items if item.get("segments")) == len(members)

        self._at.until(all_in, "every membership over HTTP")
        elapsed_s = self._done(f"{len(members)} commands in, visible over HTTP", began)
        table = Table("user", "account", "segments")
        for user_id in members[:3]:
            document = self._at.get(f"/v1/users/{user_id}/segments")
            names = [membership["segment"] for membership in document["segments"]]
            self._at.expect("newsletter" in names, f"{user_id} has newsletter, found {names}")
            table.add_row(user_id, document["account"], ", ".join(names))
        self._console.print(table)
        self._at.expect(elapsed_s < TIMEOUT_S, "in time")

    def _rejection(self) -> None:
        self._title("All or nothing: one unknown segment rejects the whole command")
        user_id = self._users[0]
        command_id = self._at.command(
            "change_memberships",
            user_id=user_id,
            add=["trial", "no-such-segment"],
            remove=["newsletter"],
        )
        self._at.flush()
        result = self._at.result(command_id)
        self._at.expect(result["status"] == "rejected", f"a rejection, found {result}")
        self._at.expect(result["error"]["code"] == "segment_unknown", f"the code, found {result}")
        names = self._at.segments(user_id)
        self._at.expect("newsletter" in names and "trial" not in names, f"no change, found {names}")
        self._show_json(result)

    def _write_over_http(self) -> None:
        self._title("Over HTTP: the answer is the result; a position token reads one's own write")
        user_id = self._users[1]
        began = time.monotonic()
        response = self._at.http.patch(
            f"/v1/users/{user_id}/segments", json={"add": ["trial"], "remove": ["beta"]}
        )
        self._at.expect(response.status_code == httpx.codes.OK, f"200, found {response.text}")
        result = response.json()
        self._done(f"{result['status']}: {result['changes']}", began)
        read = self._at.http.get(
            f"/v1/users/{user_id}/segments", headers={"Segments-Min-Position": result["position"]}
        )
        names = [membership["segment"] for membership in read.json()["segments"]]
        self._at.expect("trial" in names and "beta" not in names, f"the write, found {names}")
        for header in ("Segments-Position", "Segments-Staleness-Ms"):
            self._console.print(f"  {header}: {read.headers[header]}")
        self._console.print("  why does this user have this segment, since when, until when:")
        self._show_json(self._at.get(f"/v1/users/{user_id}/segments/trial"))

    def _expiry(self) -> None:
        self._title(f"An end: a membership for {_TTL_S} s ends at its instant")
        user_id = self._users[2]
        response = self._at.http.patch(
            f"/v1/users/{user_id}/segments", json={"add": [{"segment": "trial", "ttl": _TTL_S}]}
        )
        self._at.expect(response.status_code == httpx.codes.OK, f"200, found {response.text}")
        membership = self._at.get(f"/v1/users/{user_id}/segments/trial")
        end_ms = from_rfc3339(membership["expires_at"])
        self._console.print(f"  expires at {membership['expires_at']}")
        self._at.until(lambda: "trial" not in self._at.segments(user_id), "the end")
        late_ms = round(time.time() * 1000) - end_ms
        self._at.expect(late_ms >= 0, f"no end before its instant, found {late_ms} ms")

        def recorded() -> list[dict[str, Any]]:
            rows = self._at.rows(user_id)
            return [row for row in rows if row["cause"] == "expired"]

        [row] = self._at.until(recorded, "the end in the history")
        self._at.expect(from_rfc3339(row["at"]) == end_ms, f"the exact instant, found {row}")
        self._console.print(f"  gone at {membership['expires_at']}, recorded with that instant")

    def _deleted_user(self) -> None:
        self._title("A user is deleted: the event makes the service ask, and every segment ends")
        user_id = self._users[3]
        base_url = self._settings.user_service.base_url or ""
        httpx.delete(f"{base_url}/users/{user_id}", timeout=30).raise_for_status()
        self._at.produce(self._at.default, USER_EVENTS_TOPIC, None, {"user_id": user_id})
        self._at.flush()
        path = f"/v1/users/{user_id}/segments"

        def gone() -> bool:
            response = self._at.http.get(path)
            return bool(response.status_code == 404 and response.json()["code"] == "user_deleted")

        self._at.until(gone, "the end of the user")
        causes = self._at.until(
            lambda: [row for row in self._at.rows(user_id) if row["cause"] == "user_deleted"],
            "the removal in the history",
        )
        self._console.print(f"  404 user_deleted, {len(causes)} removals in the history")

    def _share(self) -> None:
        self._title("A share: exactly 10 % of the users, then 25 %: nobody loses it")
        preview = self._at.post("/v1/segments/preview", {"auto": {"percent": 10}})
        self._console.print(f"  preview: {preview}")
        began = time.monotonic()
        self._at.post("/v1/segments", {"segment": "rollout", "auto": {"percent": 10}}, expected=201)
        first = self._given(preview["target"])
        self._done(f"{len(first)} of {preview['eligible']} users have rollout", began)
        began = time.monotonic()
        path = "/v1/segments/rollout"
        self._at.expect(
            self._at.http.patch(path, json={"auto": {"percent": 25}}).status_code == httpx.codes.OK,
            "the percentage raised",
        )
        more = self._given((preview["eligible"] * 25 + 50) // 100)
        self._at.expect(first <= more, "nobody to lose it")
        self._done(f"{len(more)} have it, the first {len(first)} among them", began)

    def _given(self, target: int) -> set[str]:
        """Who has the segment, once that are so many and all is written."""

        def done() -> set[str] | None:
            shown = self._at.get("/v1/segments/rollout")
            if shown["state"] != "active" or shown["size"] != target:
                return None
            page = self._at.get("/v1/segments/rollout/users?limit=1000")
            return {member["user_id"] for member in page["items"]}

        members = self._at.until(done, f"{target} users with rollout")
        self._at.expect(len(members) == target, f"{target} members, found {len(members)}")
        return members

    def _history(self) -> None:
        self._title("History: every change with its instant and its cause")
        table = Table("at", "segment", "operation", "cause", "command")
        rows = self._at.rows(self._users[1])
        by_command = [row for row in rows if row["cause"] == "command"]
        self._at.expect(len(by_command) == 4, f"4 changes by commands, found {rows}")
        for row in rows:
            command = row["command_id"] or ""
            table.add_row(row["at"], row["segment"], row["operation"], row["cause"], command)
        self._console.print(table)

    def _report(self) -> None:
        self._title("Report: a link; opening it makes the month's CSV")
        month = datetime.now(UTC).strftime("%Y-%m")
        url = self._at.post("/v1/reports", {"month": month}, expected=201)["url"]
        began = time.monotonic()
        response = httpx.get(url, timeout=60)
        self._at.expect(response.status_code == httpx.codes.OK, f"200, found {response.text}")
        lines = response.text.splitlines()
        promised = int(response.headers["Segments-Row-Count"])
        self._at.expect(len(lines) == promised, f"{promised} rows, found {len(lines)}")
        self._at.expect(promised > _MEMBERS, f"more than {_MEMBERS} rows, found {promised}")
        self._done(f"{url}: {promised} rows", began)
        for line in lines[:_REPORT_LINES]:
            self._console.print(f"  {line}")

    def _say_what_to_try(self) -> None:
        url, user_id = self._base_url, self._users[0]
        user = f"{url}/v1/users/{user_id}/segments"
        add = json.dumps({"add": [{"segment": "trial", "ttl": "PT1M"}]})
        self._title("Try")
        for line in (
            f"curl -i {user}",
            f"curl -X PATCH -H 'Content-Type: application/json' -d '{add}' {user}",
            f"curl {url}/v1/users/{user_id}/history",
            f"curl {url}/v1/segments",
            f"curl {url}/dev/users/{user_id}",
            f"curl {url}/metrics",
        ):
            self._console.print(f"  {line}", soft_wrap=True, markup=False)
        self._console.print(f"  every route, to be tried in a browser: {url}/docs")

    def _title(self, text: str) -> None:
        self._console.print()
        self._console.rule(f"[bold]{text}[/]", align="left")

    def _done(self, text: str, began_s: float) -> float:
        elapsed_s = time.monotonic() - began_s
        self._console.print(f"  [green]✓[/] {text} ({elapsed_s * 1000:.0f} ms)")
        return elapsed_s

    def _show_json(self, value: Any) -> None:
        self._console.print_json(json.dumps(value), indent=2)
