"""Destinations of reports: the settings of each kind."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, model_validator

from segments.settings.sections import Section

_URL = r"^https?://[^\s@]+$"
_LINK = "URL of the file, with `{name}` for its name; none = "


class FolderDestination(Section):
    """A local or mounted folder."""

    kind: Literal["folder"] = Field(description="selects this kind")
    path: Path = Field(description="the folder, which must exist")
    public_url: str | None = Field(None, pattern=_URL, description=_LINK + "a `file:` URL")


class S3Destination(Section):
    """S3 or a compatible store."""

    kind: Literal["s3"] = Field(description="selects this kind")
    bucket: str = Field(min_length=3, max_length=255, description="the bucket, which must exist")
    prefix: str = Field("", pattern=r"^[^/]?.*$", description="prefix of every object key")
    endpoint_url: str | None = Field(None, pattern=_URL, description="none = Amazon S3")
    region: str | None = Field(None, description="none = from the environment of the process")
    addressing: Literal["auto", "path", "virtual"] = Field(
        "auto", description="whether the bucket is in the path or in the host name"
    )
    access_key: str | None = Field(
        None, description="none = credentials from the environment of the process"
    )
    secret_key: SecretStr | None = Field(None, description="belongs to `access_key`")
    secret_key_file: Path | None = Field(None, description="file with `secret_key`")
    link_ttl_s: int = Field(604_800, ge=60, le=604_800, description="validity of the signed link")
    public_url: str | None = Field(None, pattern=_URL, description=_LINK + "a signed link")
    check_etag: bool = Field(
        default=True, description="false for stores whose ETag is not derived from MD5"
    )

    @model_validator(mode="after")
    def _whole_credentials(self) -> S3Destination:
        at_most_one(self, "secret_key", "secret_key_file")
        secret = self.secret_key is not None or self.secret_key_file is not None
        if secret != (self.access_key is not None):
            raise ValueError("set both access_key and secret_key, or neither")
        return self


class SftpDestination(Section):
    """An SFTP server. Its host key is always verified."""

    kind: Literal["sftp"] = Field(description="selects this kind")
    host: str = Field(min_length=1, description="name or address of the server")
    port: int = Field(22, ge=1, le=65535, description="port of the server")
    username: str = Field(min_length=1, description="user to log in as")
    password: SecretStr | None = Field(None, description="alternative to a private key")
    password_file: Path | None = Field(None, description="file with `password`")
    private_key: SecretStr | None = Field(None, description="in OpenSSH or PEM format")
    private_key_file: Path | None = Field(None, description="file with `private_key`")
    passphrase: SecretStr | None = Field(None, description="of the private key")
    passphrase_file: Path | None = Field(None, description="file with `passphrase`")
    known_hosts: Path | None = Field(
        None, description="file with the server's key, in the format of OpenSSH's known_hosts"
    )
    host_key: str | None = Field(
        None, description="the server's public key, such as `ssh-ed25519 AAAA…`"
    )
    path: str = Field(
        ".",
        min_length=1,
        description="folder on the server, which must exist; `.` = the login folder",
    )
    public_url: str | None = Field(
        None, pattern=_URL, description=_LINK + "an `sftp:` URL without the user"
    )

    @model_validator(mode="after")
    def _credentials_and_key(self) -> SftpDestination:
        for name in ("password", "private_key", "passphrase"):
            at_most_one(self, name, f"{name}_file")
        keys = (self.private_key, self.private_key_file)
        if not any((self.password, self.password_file, *keys)):
            raise ValueError("set one of password, private_key and their files")
        if (self.known_hosts is None) == (self.host_key is None):
            raise ValueError(
                "set exactly one of known_hosts and host_key: the server's key is verified"
            )
        return self


class DropboxDestination(Section):
    """A folder of a Dropbox account or app."""

    kind: Literal["dropbox"] = Field(description="selects this kind")
    path: str = Field(
        "", pattern=r"^(/.*[^/])?$", description="folder, such as `/reports`; empty = the root"
    )
    app_key: str | None = Field(None, description="key of the app, for `refresh_token`")
    app_secret: SecretStr | None = Field(
        None, description="secret of the app; none = authorized by PKCE"
    )
    app_secret_file: Path | None = Field(None, description="file with `app_secret`")
    refresh_token: SecretStr | None = Field(None, description="used to obtain access tokens")
    refresh_token_file: Path | None = Field(None, description="file with `refresh_token`")
    access_token: SecretStr | None = Field(
        None, description="instead of the above; expires after four hours"
    )
    access_token_file: Path | None = Field(None, description="file with `access_token`")
    shared_link: bool = Field(
        default=True, description="create a link that anyone can open; false = no link"
    )
    api_url: str | None = Field(
        None, pattern=_URL, description="URL of a Dropbox stand-in for tests; none = Dropbox"
    )

    @model_validator(mode="after")
    def _credentials(self) -> DropboxDestination:
        for name in ("app_secret", "refresh_token", "access_token"):
            at_most_one(self, name, f"{name}_file")
        refresh = self.refresh_token is not None or self.refresh_token_file is not None
        access = self.access_token is not None or self.access_token_file is not None
        if refresh == access:
            raise ValueError("set exactly one of refresh_token and access_token")
        if refresh and self.app_key is None:
            raise ValueError("refresh_token needs app_key")
        return self


AnyDestination = Annotated[
    FolderDestination | S3Destination | SftpDestination | DropboxDestination,
    Field(discriminator="kind"),
]


def at_most_one(section: Section, *names: str) -> None:
    """Raise ValueError when several of these settings are set."""
    if sum(getattr(section, name) is not None for name in names) > 1:
        raise ValueError(f"set only one of {' and '.join(names)}")


def secret(section: Section, name: str) -> str | None:
    """The plaintext of a secret, from its setting or its file. OSError when reading fails."""
    value: SecretStr | None = getattr(section, name)
    if value is not None:
        return value.get_secret_value()
    file: Path | None = getattr(section, f"{name}_file")
    return None if file is None else file.read_text(encoding="utf-8").strip()
