"""The two clients: the same calls, blocking and asynchronous.

Each call is written once, as steps, in the module of its subject; here they get their names.
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
from segments.client.reports import whole_file
from segments.client.sansio import Steps, Walk
from segments.client.sync_driver import Driver, Items

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
ReportProgress = Callable[[int, int], None]
CONNECT_TIMEOUT_S = 5.0
IO_TIMEOUT_S = 15.0


class _Configured(ABC):
    """What both clients are told. `timeout_s` is the time of a whole call with all its attempts;
    every call can be given another. `token`: the bearer token, or what gives it for each request.
    """

    def __init__(  # noqa: PLR0913 - all that there is to tell
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
        """Make the connection pool and its driver."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._core.base_url!r})"

    @property
    def positions(self) -> str | None:
        """In a session: what its writes have reached, as `min_position` of a read elsewhere."""
        return None if self._core.session is None else self._core.session.minimum()

    def session(self) -> Self:
        """A client over the same connections whose reads see its own writes, on any sidecar.

        It keeps the highest position of each partition that its writes reached, and every read
        waits for them. Make one for each unit of work; it need not be closed.
        """
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._core = replace(self._core, session=Positions())
        other._owns_connections = False
        return other


def _described(called: F, written: Callable[..., Any]) -> F:
    """The method with the name, the words and the parameters of what it calls, for `help`."""
    first, *others = inspect.signature(written).parameters.values()
    described: Any = called
    described.__name__ = described.__qualname__ = written.__name__
    described.__doc__ = written.__doc__
    described.__signature__ = inspect.Signature(
        [first.replace(name="self", annotation=inspect.Parameter.empty), *others]
    )
    return called


def _call(
    steps: Callable[Concatenate[Core, P], Steps[T]],
) -> Callable[Concatenate[SegmentsClient, P], T]:
    def called(self: SegmentsClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._driver.run(steps(self._core, *args, **kwargs))

    return _described(called, steps)


def _list(
    walk: Callable[Concatenate[Core, P], Walk[T]],
) -> Callable[Concatenate[SegmentsClient, P], Items[T]]:
    def called(self: SegmentsClient, /, *args: P.args, **kwargs: P.kwargs) -> Items[T]:
        return Items(self._driver, walk(self._core, *args, **kwargs))

    return _described(called, walk)


def _acall(
    steps: Callable[Concatenate[Core, P], Steps[T]],
) -> Callable[Concatenate[AsyncSegmentsClient, P], Awaitable[T]]:
    async def called(self: AsyncSegmentsClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._driver.run(steps(self._core, *args, **kwargs))

    return _described(called, steps)


def _alist(
    walk: Callable[Concatenate[Core, P], Walk[T]],
) -> Callable[Concatenate[AsyncSegmentsClient, P], AsyncItems[T]]:
    def called(self: AsyncSegmentsClient, /, *args: P.args, **kwargs: P.kwargs) -> AsyncItems[T]:
        return AsyncItems(self._driver, walk(self._core, *args, **kwargs))

    return _described(called, walk)


class SegmentsClient(_Configured):
    """The service over HTTP. Safe for threads; use it as a context manager, or `close` it."""

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
        **asked: Any,
    ) -> int:
        """Write the report of a month to a file; how many rows it has. Arguments as for `report`.

        A path has the file only when every row has come. `progress` is told rows and their number.
        """
        download = reports.report(self._core, month, **asked)
        with whole_file(target) if isinstance(target, Path) else nullcontext(target) as file:
            for piece in Items(self._driver, download):
                file.write(piece)
                if progress is not None:
                    progress(download.rows, download.promised)
        return download.rows

    def close(self) -> None:
        """Close the connections; those of a session are its client's."""
        if self._owns_connections:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncSegmentsClient(_Configured):
    """The service over HTTP, for one event loop; use it in `async with`, or `aclose` it."""

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
        **asked: Any,
    ) -> int:
        """Write the report of a month to a file; how many rows it has. Arguments as for `report`.

        A path has the file only when every row has come. `progress` is told rows and their number.
        """
        download = reports.report(self._core, month, **asked)
        with whole_file(target) if isinstance(target, Path) else nullcontext(target) as file:
            async for piece in AsyncItems(self._driver, download):
                await asyncio.to_thread(file.write, piece)
                if progress is not None:
                    progress(download.rows, download.promised)
        return download.rows

    async def aclose(self) -> None:
        """Close the connections; those of a session are its client's."""
        if self._owns_connections:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
