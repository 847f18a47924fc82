"""S3 and compatible stores: a multipart upload that becomes an object when completed.

A partial object is never visible, so no temporary name is needed. Each part is sent with its MD5,
which the store verifies; the MD5 of these sums is the ETag of the object.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from segments.destinations.base import (
    UPLOAD_PIECE_BYTES,
    DestinationError,
    File,
    Remember,
    Stored,
    clean_up,
    link,
    not_installed,
    require_length,
)
from segments.settings.destinations import S3Destination, secret

CSV_CONTENT_TYPE = "text/csv; charset=utf-8"
PARTS_MAX = 10_000
_CONNECT_TIMEOUT_S = 10.0
_REFUSED = frozenset({401, 403, 404})
_TOO_MANY = frozenset({429, 503})


def create(settings: S3Destination, step_timeout_s: float) -> S3:
    """The destination for these settings."""
    return S3(settings, step_timeout_s)


class S3:
    """See Destination."""

    def __init__(self, settings: S3Destination, step_timeout_s: float) -> None:
        self._settings = settings
        self._step_timeout_s = step_timeout_s

    @asynccontextmanager
    async def open_upload(self, file: File, remember: Remember) -> AsyncIterator[S3Upload]:
        """Start an upload."""
        # All parts but the last have the same size: some stores require it.
        part_bytes = max(UPLOAD_PIECE_BYTES, math.ceil(file.max_bytes / PARTS_MAX))
        async with self._client() as client:
            key = self._settings.prefix + file.name
            upload = S3Upload(client, self._settings, key, part_bytes, remember)
            try:
                yield upload
            finally:
                await clean_up(upload.abort())

    async def discard(self, leftover: str) -> None:
        """Abort the unfinished upload of an earlier attempt."""
        key, upload_id = json.loads(leftover)
        async with self._client() as client:
            with _translated_errors():
                await _abort(client, self._settings.bucket, key, upload_id)

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Any]:
        try:
            from aiobotocore.config import AioConfig  # noqa: PLC0415 - an extra
            from aiobotocore.session import get_session  # noqa: PLC0415 - an extra
        except ImportError:
            raise not_installed("aiobotocore") from None
        settings = self._settings
        config = AioConfig(
            signature_version="s3v4",
            s3={"addressing_style": settings.addressing},
            connect_timeout=min(_CONNECT_TIMEOUT_S, self._step_timeout_s),
            read_timeout=self._step_timeout_s,
            retries={"mode": "standard", "total_max_attempts": 4},
            # Many stores support no checksum other than the MD5 that is sent with each part.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        async with AsyncExitStack() as stack:
            with _translated_errors():
                creating = get_session().create_client(
                    "s3",
                    region_name=settings.region,
                    endpoint_url=settings.endpoint_url,
                    aws_access_key_id=settings.access_key,
                    aws_secret_access_key=secret(settings, "secret_key"),
                    config=config,
                )
                client = await stack.enter_async_context(creating)
            yield client


class S3Upload:
    """See Upload."""

    def __init__(
        self,
        client: Any,
        settings: S3Destination,
        key: str,
        part_bytes: int,
        remember: Remember,
    ) -> None:
        self._client = client
        self._settings = settings
        self._place = {"Bucket": settings.bucket, "Key": key}
        self._part_bytes = part_bytes
        self._remember = remember
        self._buffer = bytearray()
        self._upload_id: str | None = None
        self._parts: list[dict[str, Any]] = []
        self._sums: list[bytes] = []

    async def write(self, chunk: bytes) -> None:
        """Buffer bytes, and send each full part."""
        self._buffer += chunk
        with _translated_errors():
            await self._send_full_parts()

    async def _send_full_parts(self) -> None:
        while len(self._buffer) >= self._part_bytes:
            await self._send_part(bytes(self._buffer[: self._part_bytes]))
            del self._buffer[: self._part_bytes]

    async def close(self) -> None:
        """Send the last part of a multipart upload."""
        if self._upload_id is not None and self._buffer:
            with _translated_errors():
                await self._send_part(bytes(self._buffer))

    async def finish(self, sent_bytes: int) -> Stored:
        """Create the object, and compare its size and ETag."""
        with _translated_errors():
            etag = await self._create_object()
            found = await self._client.head_object(**self._place)
        try:
            self._compare(found, sent_bytes, etag)
        except DestinationError:
            await clean_up(self._client.delete_object(**self._place))
            raise
        return await self._stored()

    def _compare(self, found: dict[str, Any], sent_bytes: int, etag: str) -> None:
        require_length(found["ContentLength"], sent_bytes)
        # The ETag of an object encrypted with a customer key is not derived from MD5.
        encrypted = "SSEKMSKeyId" in found or "SSECustomerAlgorithm" in found
        if self._settings.check_etag and not encrypted and found["ETag"].strip('"') != etag:
            raise DestinationError("differs", f"the ETag is {found['ETag']}, not {etag}")

    async def abort(self) -> None:
        """Abort a multipart upload that has not been completed."""
        upload_id, self._upload_id = self._upload_id, None
        if upload_id is not None:
            await _abort(self._client, self._place["Bucket"], self._place["Key"], upload_id)

    async def _create_object(self) -> str:
        """Create the object and return the ETag that it must have."""
        if self._upload_id is None:
            return await self._put_whole(bytes(self._buffer))
        return await self._complete()

    async def _put_whole(self, body: bytes) -> str:
        digest = _md5(body)
        await self._client.put_object(
            **self._place, Body=body, ContentType=CSV_CONTENT_TYPE, ContentMD5=_base64(digest)
        )
        return digest.hex()

    async def _send_part(self, body: bytes) -> None:
        if self._upload_id is None:
            created = await self._client.create_multipart_upload(
                **self._place, ContentType=CSV_CONTENT_TYPE
            )
            self._upload_id = created["UploadId"]
            await self._remember(json.dumps([self._place["Key"], self._upload_id]))
        digest, number = _md5(body), len(self._parts) + 1
        sent = await self._client.upload_part(
            **self._place,
            UploadId=self._upload_id,
            PartNumber=number,
            Body=body,
            ContentMD5=_base64(digest),
        )
        self._sums.append(digest)
        self._parts.append({"PartNumber": number, "ETag": sent["ETag"]})

    async def _complete(self) -> str:
        await self._client.complete_multipart_upload(
            **self._place, UploadId=self._upload_id, MultipartUpload={"Parts": self._parts}
        )
        self._upload_id = None
        return f"{_md5(b''.join(self._sums)).hex()}-{len(self._sums)}"

    async def _stored(self) -> Stored:
        settings = self._settings
        if settings.public_url is not None:
            return Stored(link(settings.public_url, self._place["Key"].rpartition("/")[2]))
        url = await self._client.generate_presigned_url(
            "get_object", Params=self._place, ExpiresIn=settings.link_ttl_s
        )
        return Stored(url, round((time.time() + settings.link_ttl_s) * 1000))


async def _abort(client: Any, bucket: str, key: str, upload_id: str) -> None:
    try:
        await client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
    except client.exceptions.NoSuchUpload:
        return  # already aborted or completed


def _md5(body: bytes) -> bytes:
    return hashlib.md5(body, usedforsecurity=False).digest()


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


class _translated_errors:  # noqa: N801 - used as a function
    """Translates errors of the library, and of reading secret files, to DestinationError."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        from botocore.exceptions import (  # noqa: PLC0415 - an extra
            BotoCoreError,
            ClientError,
            NoCredentialsError,
        )

        if isinstance(error, ClientError):
            raise _refusal(error) from None
        if isinstance(error, NoCredentialsError):
            raise DestinationError(
                "refused", "no credentials are configured", lasting=True
            ) from None
        if isinstance(error, (BotoCoreError, OSError)):
            raise DestinationError("unreachable", f"{type(error).__name__}: {error}") from None


def _refusal(error: Any) -> DestinationError:
    """The error response of the store as DestinationError."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    body = error.response.get("Error", {})
    detail = f"{body.get('Code', '')}: {body.get('Message', '')} ({error.operation_name}, {status})"
    if status in _REFUSED and body.get("Code") != "NoSuchUpload":
        return DestinationError("refused", detail, lasting=True)
    return DestinationError("unreachable" if status in _TOO_MANY else "failed", detail)
