"""Parts of the client that need no network: imports, retries, sessions, arguments."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import pytest

from segments import client as api
from segments.client import AsyncSegmentsClient, Retries, Rule, SegmentsClient, errors, inputs
from segments.client.positions import SESSION_PARTITIONS_MAX, Positions
from tests.support.paths import ROOT

HEAVY = ("quixstreams", "rocksdict", "confluent_kafka", "aiohttp", "typer", "numpy")


def test_importing_the_client_does_not_import_the_service() -> None:
    # In the root, whose folder `http` could shadow the standard library's package.
    code = (
        "import sys, json, http, http.client, segments.client;"
        "print(json.dumps([http.__file__, sorted(sys.modules)]))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    http_file, modules = json.loads(found.stdout)
    assert [name for name in modules if name.partition(".")[0] in HEAVY] == []
    assert [name for name in modules if name.startswith(("segments.http", "segments.st"))] == []
    assert http_file == inspect.getsourcefile(__import__("http"))


def test_no_client_module_shadows_the_standard_library() -> None:
    names = {path.stem for path in (ROOT / "src/segments/client").glob("*.py")}
    assert names & sys.stdlib_module_names == set()


def test_both_clients_have_the_same_methods() -> None:
    def methods(client_class: type) -> dict[str, list[str]]:
        return {
            name.removeprefix("a") if name == "aclose" else name: list(
                inspect.signature(call).parameters
            )
            for name, call in vars(client_class).items()
            if not name.startswith("_")
        }

    assert methods(SegmentsClient) == methods(AsyncSegmentsClient)
    assert all(getattr(SegmentsClient, name).__doc__ for name in methods(SegmentsClient))


def test_docstring_tree_matches_error_hierarchy() -> None:
    drawn: dict[str, str] = {}
    name_at: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        name = line.strip("│├└─ ").partition(" ")[0]
        if name.endswith("Error"):
            depth = (len(line) - len(line.lstrip(" │├└─"))) // 4
            name_at[depth] = name
            drawn[name] = name_at.get(depth - 1, "Exception")
    real = {
        name: member.__base__.__name__
        for name, member in vars(errors).items()
        if inspect.isclass(member) and issubclass(member, Exception) and member.__base__ is not None
    }
    assert drawn == real
    assert set(real) <= set(api.__all__)


def test_backoff_has_full_jitter_and_respects_retry_after() -> None:
    most = Retries(backoff_s=0.1, backoff_max_s=1.0, chance=lambda: 1.0)
    assert [most.pause_s(failed, None) for failed in range(1, 6)] == [0.1, 0.2, 0.4, 0.8, 1.0]
    least = Retries(chance=lambda: 0.0)
    assert least.pause_s(3, None) == 0.0
    assert least.pause_s(3, 7.0) == 7.0


def test_session_tracks_highest_position_per_partition() -> None:
    positions = Positions()
    assert positions.minimum() is None
    for position in ("1:5", "0:3", "1:4", "0:3, 2:0"):
        positions.note(position)
    assert positions.minimum() == "0:3,1:5,2:0"


def test_session_with_too_many_partitions_raises() -> None:
    positions = Positions(dict.fromkeys(range(SESSION_PARTITIONS_MAX), 1))
    assert positions.minimum() is not None
    positions.note(f"{SESSION_PARTITIONS_MAX}:1")
    with pytest.raises(api.SessionError, match="65 partitions"):
        positions.minimum()


def test_times_need_an_offset() -> None:
    east = timezone(timedelta(hours=2))
    assert (
        inputs.instant(datetime(2026, 11, 24, 17, tzinfo=east), "at") == "2026-11-24T15:00:00.000Z"
    )
    assert inputs.instant("2026-11-24T17:00:00+02:00", "at") == "2026-11-24T17:00:00+02:00"
    for invalid in (datetime(2026, 11, 24), "2026-11-24"):  # noqa: DTZ001 - invalid on purpose
        with pytest.raises(api.InvalidError):
            inputs.instant(invalid, "at")


def test_rule_body_omits_unset_fields() -> None:
    assert Rule(percent=10).body() == {
        "percent": 10,
        "include": [],
        "exclude": [],
        "accounts": ["active"],
        "newcomers": False,
    }
    assert Rule(count=3, ttl=timedelta(days=7)).body()["ttl"] == 604_800


@pytest.mark.parametrize("url", ["", "127.0.0.1:8080", "ftp://x", "http://", "http://x?y=1"])
def test_base_url_must_be_http(url: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        SegmentsClient(url)


def test_client_repr_hides_token() -> None:
    with SegmentsClient("http://127.0.0.1:8080/", token="hidden") as client:
        assert "hidden" not in repr(client) + repr(vars(client))
        assert repr(client) == "SegmentsClient('http://127.0.0.1:8080')"
