"""Authenticates and authorizes each request. With `auth.mode` `none` every request is allowed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from segments.http.auth.bearer import Verifier, authenticate, role_needed
from segments.http.auth.key_verifier import KeyVerifier
from segments.http.auth.roles import ANONYMOUS, SUBJECT, Role
from segments.http.auth.signed_links import LinkSigner, create_link_signer, is_signed
from segments.http.auth.token_verifier import TokenVerifier
from segments.settings import Settings

Guard = Callable[[web.Request], Awaitable[None]]


class Authorizer:
    """Authorizes requests by their credentials. Without a verifier every client is an admin.

    `links` signs URLs that need no credentials; None if no request needs credentials.
    """

    def __init__(self, verifier: Verifier | None, links: LinkSigner | None) -> None:
        self._verifier = verifier
        self.links = links

    def guard(self, role: Role, *, signed_link: bool = False) -> Guard | None:
        """The check before a route's handler; None if it needs no credentials.

        `signed_link`: a signed link replaces credentials.
        """
        verifier, signed = self._verifier, self.links if signed_link else None
        if verifier is None:
            return _allow_anonymous
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
            subject = await authenticate(request, verifier)
            if not subject.role.covers(role):
                raise role_needed(role)
            request[SUBJECT] = subject

        return guard

    async def start(self) -> None:
        """Start the verifier."""
        if self._verifier is not None:
            await self._verifier.start()

    async def close(self) -> None:
        """Stop the verifier."""
        if self._verifier is not None:
            await self._verifier.close()


async def _allow_anonymous(request: web.Request) -> None:
    request[SUBJECT] = ANONYMOUS


def create_authorizer(settings: Settings) -> Authorizer:
    """The authorizer for the settings `auth`."""
    if settings.auth.mode == "none":
        return Authorizer(None, None)
    keys = settings.auth.mode == "keys"
    verifier = KeyVerifier(settings) if keys else TokenVerifier(settings.auth)
    return Authorizer(verifier, create_link_signer(settings))


AUTHORIZER = web.AppKey("authorizer", Authorizer)
