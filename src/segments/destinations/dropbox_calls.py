"""Calls of Dropbox's blocking SDK: in a thread, with retries and translated errors."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlsplit

from segments.destinations.base import Code, DestinationError, not_installed
from segments.settings.destinations import DropboxDestination, secret

T = TypeVar("T")
_ATTEMPTS = 4
_BACKOFF_S = 0.5
_RETRY_AFTER_MAX_S = 30.0
"""A longer delay requested by Dropbox is left to the next attempt of the job."""


class Calls:
    """A connection to Dropbox for one upload."""

    def __init__(self, settings: DropboxDestination, step_timeout_s: float) -> None:
        self._settings = settings
        # Half of it, so that a call without a response can be retried within the step's timeout.
        self._timeout_s = step_timeout_s / 2
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="dropbox")
        self._client: Any = None

    async def connect(self) -> None:
        """Create the client; nothing is sent yet. DestinationError."""
        loop = asyncio.get_running_loop()
        self._client = await loop.run_in_executor(self._executor, self._create_client)

    def end(self) -> None:
        """Release the thread; a call in progress ends by its timeout."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def run(self, call: Callable[[Any], T]) -> T:
        """Run `call` with the SDK's client and return its result. DestinationError."""
        loop = asyncio.get_running_loop()
        for number in range(1, _ATTEMPTS + 1):
            try:
                return await loop.run_in_executor(self._executor, call, self._client)
            except DestinationError:
                raise
            except Exception as error:
                translated = _translate(error)
                if translated is None:
                    raise
                wait_s = _BACKOFF_S * 2**number * (0.5 + random.random() / 2)  # noqa: S311
                if translated.retry_after_s is not None:
                    wait_s = translated.retry_after_s
                retry = translated.code == "unreachable" and wait_s <= _RETRY_AFTER_MAX_S
                if not retry or number == _ATTEMPTS:
                    raise translated from None
                await asyncio.sleep(wait_s)
        raise AssertionError("the last attempt returns or raises")

    def _create_client(self) -> Any:
        try:
            import dropbox  # noqa: PLC0415 - an extra
            import requests  # noqa: PLC0415 - an extra
        except ImportError:
            raise not_installed("dropbox") from None
        settings = self._settings
        session = requests.Session()
        if settings.api_url is not None:
            session.trust_env = False
            session.mount("https://", _stand_in_adapter(settings.api_url))
        try:
            return dropbox.Dropbox(
                oauth2_access_token=secret(settings, "access_token"),
                oauth2_refresh_token=secret(settings, "refresh_token"),
                app_key=settings.app_key,
                app_secret=secret(settings, "app_secret"),
                session=session,
                timeout=self._timeout_s,
                max_retries_on_error=0,
                max_retries_on_rate_limit=0,
            )
        except OSError as error:
            raise DestinationError("refused", f"{error.strerror}: {error.filename}") from None


def _translate(error: Exception) -> DestinationError | None:
    """An error of the SDK as DestinationError; None for any other error.

    Response bodies are left out: Dropbox echoes a rejected token in them.
    """
    import requests  # noqa: PLC0415 - an extra
    from dropbox import exceptions  # noqa: PLC0415 - an extra

    error_name = type(error).__name__
    status = getattr(error, "status_code", 0)
    if isinstance(error, exceptions.ApiError):
        return _api_error(f"Dropbox: {error.error}")
    if isinstance(error, exceptions.RateLimitError):
        wait_s = None if error.backoff is None else float(error.backoff)
        return DestinationError(
            "unreachable", "Dropbox limits the rate (429)", retry_after_s=wait_s
        )
    if isinstance(error, (exceptions.AuthError, exceptions.BadInputError)):
        detail = f"Dropbox rejects the credentials or the request ({error_name})"
        return DestinationError("refused", detail, lasting=True)
    if isinstance(error, exceptions.HttpError):
        code: Code = "unreachable" if status >= 500 else "failed"
        return DestinationError(code, f"Dropbox responded {status}")
    if isinstance(error, requests.RequestException):
        return DestinationError("unreachable", f"Dropbox is unreachable ({error_name})")
    return None


def _api_error(detail: str) -> DestinationError:
    if "insufficient_space" in detail:
        return DestinationError("full", detail)
    if "no_write_permission" in detail or "malformed_path" in detail:
        return DestinationError("refused", detail, lasting=True)
    return DestinationError("failed", detail)


def _stand_in_adapter(url: str) -> Any:
    """A `requests` adapter for a stand-in of Dropbox's hosts.

    `https://api.dropboxapi.com/2/x` is requested at `{url}/api.dropboxapi.com/2/x`.
    """
    from requests import PreparedRequest  # noqa: PLC0415 - an extra
    from requests.adapters import HTTPAdapter  # noqa: PLC0415 - an extra

    class StandIn(HTTPAdapter):
        def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Any:
            parts = urlsplit(str(request.url))
            request.url = f"{url.rstrip('/')}/{parts.netloc}{parts.path}"
            return super().send(request, *args, **options)

    return StandIn()
