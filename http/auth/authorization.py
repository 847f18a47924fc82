"""The step before every handler: who is it, and may they. With `auth.mode` none, everybody may."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from segments.http.auth.bearer import Verifier, role_needed, subject_of
from segments.http.auth.key_verifier import KeyRing
from segments.http.auth.roles import ANONYMOUS, SUBJECT, Role
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

    def guard(self, role: Role, *, signed_link: bool = False) -> Guard | None:
        """The check before a route's handler; None if it needs no credentials.

        `signed_link`: a signed link replaces credentials.
        """
        verifier, signed = self._verifier, self.links if signed_link else None
        if verifier is None:
            return _admit_everybody
        if role is Role.OPEN:
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
            if not subject.role.covers(role):
                raise role_needed(role)
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
