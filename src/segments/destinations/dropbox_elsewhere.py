"""Sends what is meant for Dropbox's hosts to a stand-in for it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter


class Elsewhere(HTTPAdapter):
    """`https://api.dropboxapi.com/2/x` is asked at `{url}/api.dropboxapi.com/2/x`."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url.rstrip("/")

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> Any:
        """See HTTPAdapter."""
        parts = urlsplit(str(request.url))
        request.url = f"{self._url}/{parts.netloc}{parts.path}"
        return super().send(request, *args, **options)
