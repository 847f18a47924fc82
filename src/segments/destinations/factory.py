"""A destination from its settings."""

from __future__ import annotations

from segments.destinations.base import Destination
from segments.destinations.dropbox import Dropbox
from segments.destinations.folder import Folder
from segments.destinations.s3 import S3
from segments.destinations.sftp import Sftp
from segments.settings.destinations import (
    AnyDestination,
    FolderDestination,
    S3Destination,
    SftpDestination,
)


def make(settings: AnyDestination, step_timeout_s: float) -> Destination:
    """The destination that these settings describe; nothing is connected or imported yet."""
    if isinstance(settings, FolderDestination):
        return Folder(settings)
    if isinstance(settings, S3Destination):
        return S3(settings, step_timeout_s)
    if isinstance(settings, SftpDestination):
        return Sftp(settings, step_timeout_s)
    return Dropbox(settings, step_timeout_s)
