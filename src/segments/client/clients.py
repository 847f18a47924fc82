"""The synchronous and the asynchronous client, with the same calls.

Each call is implemented once, as steps, in the module of its resource, and bound here.
"""

from __future__ import annotations

import asyncio
import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from segments.client import commands, developer, reports, transport, users
from segments.client import segments as segment_calls
from segments.client.async_driver import AsyncDriver, AsyncItems
from segments.client.call import Core, Retries, Token
from segments.client.positions import Positions
from segments.client.reports import atomic_file
from segments.client.sansio import Steps, Walk
from segments.client.sync_driver import Driver, Items

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
ReportProgress = Callable[[int, int], None]
CONNECT_TIMEOUT_S = 5.0
IO_TIMEOUT_S = 15.0


class _BaseClient(ABC):
    """Configuration of both clients. `timeout_s`: for a whole call with its retries; each call can
    override it. `token`: the bearer token, or a function that returns it for each request.
    """

    def __init__(  # noqa: PLR0913 - options
        self,
        base_url: str,
        *,
        token: Token = None,
        timeout_s: float = 30.0,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        io_timeout_s: float = IO_TIMEOUT_S,
        connections: int = 100,
        retries: Retries | None = None,
        verify: Any = True,
    ) -> None:
        base_url = transport.checked_url(base_url)
        self._core = Core(base_url, token, timeout_s, io_timeout_s, retries or Retries())
        self._connect_timeout_s = connect_timeout_s
        self._owns_connections = True
        self._connect(transport.options(connect_timeout_s, io_timeout_s, connections, verify))

    @abstractmethod
    def _connect(self, options: dict[str, Any]) -> None:
        """Create the connection pool and its driver."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._core.base_url!r})"

    @property
    def positions(self) -> str | None:
        """Positions of the session's writes, for `min_position` of a read by another client."""
        return None if self._core.session is None else self._core.session.minimum()

    def session(self) -> Self:
        """A client on the same connections whose reads see its own writes, on any sidecar.

        It tracks the highest position of its writes in each partition, and every read waits for
        them. Create one per unit of work; it need not be closed.
        """
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._core = replace(self._core, session=Positions())
        other._owns_connections = False
        return other


def _with_metadata_of(method: F, steps: Callable[..., Any]) -> F:
    """Give a method the name, docstring and signature of the steps that it runs, for `help`."""
    first, *others = inspect.signature(steps).parameters.values()
    target: Any = method
    target.__name__ = target.__qualname__ = steps.__name__
    target.__doc__ = steps.__doc__
    target.__signature__ = inspect.Signature(
        [first.replace(name="self", annotation=inspect.Parameter.empty), *others]
    )
    return method


def _call(
    steps: Callable[Concatenate[Core, P], Steps[T]],
) -> Callable[Concatenate[SegmentsClient, P], T]:
    def method(self: SegmentsClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._driver.run(steps(self._core, *args, **kwargs))

    return _with_metadata_of(method, steps)


def _list(
    walk: Callable[Concatenate[Core, P], Walk[T]],
) -> Callable[Concatenate[SegmentsClient, P], Items[T]]:
    def method(self: SegmentsClient, /, *args: P.args, **kwargs: P.kwargs) -> Items[T]:
        return Items(self._driver, walk(self._core, *args, **kwargs))

    return _with_metadata_of(method, walk)


def _acall(
    steps: Callable[Concatenate[Core, P], Steps[T]],
) -> Callable[Concatenate[AsyncSegmentsClient, P], Awaitable[T]]:
    async def method(self: AsyncSegmentsClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._driver.run(steps(self._core, *args, **kwargs))

    return _with_metadata_of(method, steps)


def _alist(
    walk: Callable[Concatenate[Core, P], Walk[T]],
) -> Callable[Concatenate[AsyncSegmentsClient, P], AsyncItems[T]]:
    def method(self: AsyncSegmentsClient, /, *args: P.args, **kwargs: P.kwargs) -> AsyncItems[T]:
        return AsyncItems(self._driver, walk(self._core, *args, **kwargs))

    return _with_metadata_of(method, walk)


class SegmentsClient(_BaseClient):
    """Synchronous client. Thread-safe; use it as a context manager, or call `close`."""

    def _connect(self, options: dict[str, Any]) -> None:
        self._http = httpx.Client(**options)
        self._driver = Driver(self._http, self._connect_timeout_s)

    user_segments = _call(users.user_segments)
    membership = _call(users.membership)
    change = _call(users.change)
    history = _list(users.history)
    query = _list(users.query)

    segment = _call(segment_calls.segment)
    segments = _list(segment_calls.segments)
    create_segment = _call(segment_calls.create_segment)
    update_segment = _call(segment_calls.update_segment)
    delete_segment = _call(segment_calls.delete_segment)
    preview_segment = _call(segment_calls.preview_segment)
    members = _list(segment_calls.members)

    send_commands = _call(commands.send_commands)
    result = _call(commands.result)
    results = _list(commands.results)

    report_link = _call(reports.report_link)
    put_report = _call(reports.put_report)
    report_job = _call(reports.report_job)
    cancel_report_job = _call(reports.cancel_report_job)
    report = _list(reports.report)

    user_state = _call(developer.user_state)
    set_user_state = _call(developer.set_user_state)
    delete_user = _call(developer.delete_user)
    import_users = _call(developer.import_users)

    health = _call(developer.health)

    def save_report(
        self,
        target: Path | IO[bytes],
        month: str,
        *,
        progress: ReportProgress | None = None,
        **query: Any,
    ) -> int:
        """Write a month's report to a file and return its number of rows.

        Arguments as for `report`. A file at a path appears only once it is complete. `progress` is
        called with the rows received and their total.
        """
        download = reports.report(self._core, month, **query)
        with atomic_file(target) if isinstance(target, Path) else nullcontext(target) as file:
            for chunk in Items(self._driver, download):
                file.write(chunk)
                if progress is not None:
                    progress(download.rows, download.rows_total)
        return download.rows

    def close(self) -> None:
        """Close the connections; on a session it does nothing."""
        if self._owns_connections:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncSegmentsClient(_BaseClient):
    """Asynchronous client for one event loop; use it in `async with`, or call `aclose`."""

    def _connect(self, options: dict[str, Any]) -> None:
        self._http = httpx.AsyncClient(**options)
        self._driver = AsyncDriver(self._http, self._connect_timeout_s)

    user_segments = _acall(users.user_segments)
    membership = _acall(users.membership)
    change = _acall(users.change)
    history = _alist(users.history)
    query = _alist(users.query)

    segment = _acall(segment_calls.segment)
    segments = _alist(segment_calls.segments)
    create_segment = _acall(segment_calls.create_segment)
    update_segment = _acall(segment_calls.update_segment)
    delete_segment = _acall(segment_calls.delete_segment)
    preview_segment = _acall(segment_calls.preview_segment)
    members = _alist(segment_calls.members)

    send_commands = _acall(commands.send_commands)
    result = _acall(commands.result)
    results = _alist(commands.results)

    report_link = _acall(reports.report_link)
    put_report = _acall(reports.put_report)
    report_job = _acall(reports.report_job)
    cancel_report_job = _acall(reports.cancel_report_job)
    report = _alist(reports.report)

    user_state = _acall(developer.user_state)
    set_user_state = _acall(developer.set_user_state)
    delete_user = _acall(developer.delete_user)
    import_users = _acall(developer.import_users)

    health = _acall(developer.health)

    async def save_report(
        self,
        target: Path | IO[bytes],
        month: str,
        *,
        progress: ReportProgress | None = None,
        **query: Any,
    ) -> int:
        """Write a month's report to a file and return its number of rows.

        Arguments as for `report`. A file at a path appears only once it is complete. `progress` is
        called with the rows received and their total.
        """
        download = reports.report(self._core, month, **query)
        with atomic_file(target) if isinstance(target, Path) else nullcontext(target) as file:
            async for chunk in AsyncItems(self._driver, download):
                await asyncio.to_thread(file.write, chunk)
                if progress is not None:
                    progress(download.rows, download.rows_total)
        return download.rows

    async def aclose(self) -> None:
        """Close the connections; on a session it does nothing."""
        if self._owns_connections:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
