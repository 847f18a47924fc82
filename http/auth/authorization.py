"""The step before every handler: who is it, and may they. With `auth.mode` none, everybody may."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from segments.http.auth.bearer import Verifier, role_needed, subject_of
from segments.http.auth.key_verifier import KeyRing
from segments.http.auth.roles import ANONYMOUS, ELSEWHERE, SUBJECT, Role, Row, row
from segments.http.auth.signed_links import Links, is_signed, links
from segments.http.auth.token_verifier import TokenVerifier
from segments.settings import Settings

Guard = Callable[[web.Request], Awaitable[None]]


class Admission:
    """Admits requests by their credentials. Without a verifier everybody is admitted, as admin.

    `links` signs what may be opened without credentials; None where nothing needs them.
    """

    def __init__(self, settings: Settings, verifier: Verifier | None, links: Links | None) -> None:
        self._auth = settings.auth
        self._verifier = verifier
        self.links = links

    def guard(self, method: str, path: str) -> Guard | None:
        """The check before a route's handler; None where nobody needs to be known.

        LookupError for a route that the table does not have.
        """
        return self._guard(row(method, path, self._auth))

    def guard_elsewhere(self) -> Guard | None:
        """The check before the answer to what no route takes."""
        return self._guard(ELSEWHERE)

    def _guard(self, needed: Row) -> Guard | None:
        verifier, signed = self._verifier, self.links if needed.link else None
        if verifier is None:
            return _admit_everybody
        if needed.role is Role.OPEN:
            return None

        async def guard(request: web.Request) -> None:
            if (
                signed is not None
                and is_signed(request.query)
                and "Authorization" not in request.headers
            ):
                signed.check(request.path, request.query)
                return
            subject = await subject_of(request, verifier)
            if not subject.role.covers(needed.role):
                raise role_needed(needed.role)
            request[SUBJECT] = subject

        return guard

    async def start(self) -> None:
        """Get ready to verify."""
        if self._verifier is not None:
            await self._verifier.start()

    async def close(self) -> None:
        """End what was started."""
        if self._verifier is not None:
            await self._verifier.close()


async def _admit_everybody(request: web.Request) -> None:
    request[SUBJECT] = ANONYMOUS


def admission(settings: Settings) -> Admission:
    """As `auth` says."""
    if settings.auth.mode == "none":
        return Admission(settings, None, None)
    verifier = KeyRing(settings) if settings.auth.mode == "keys" else TokenVerifier(settings.auth)
    return Admission(settings, verifier, links(settings))


ADMISSION = web.AppKey("admission", Admission)
