"""Where reports can be put: what each kind of destination has to be told (R2)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, model_validator

from segments.settings.sections import Section

_URL = r"^https?://[^\s@]+$"
_LINK = "where the file is reached, `{name}` standing for its name; none = "


class FolderDestination(Section):
    """A folder of this machine, or one that is mounted."""

    kind: Literal["folder"] = Field(description="says which kind this is")
    path: Path = Field(description="the folder, which has to be there")
    public_url: str | None = Field(None, pattern=_URL, description=_LINK + "a `file:` URL")


class S3Destination(Section):
    """S3, or what speaks its protocol."""

    kind: Literal["s3"] = Field(description="says which kind this is")
    bucket: str = Field(min_length=3, max_length=255, description="the bucket, which has to exist")
    prefix: str = Field("", pattern=r"^[^/]?.*$", description="put before every name")
    endpoint_url: str | None = Field(None, pattern=_URL, description="none = Amazon's")
    region: str | None = Field(None, description="none = as the environment of the process says")
    addressing: Literal["auto", "path", "virtual"] = Field(
        "auto", description="whether the bucket stands in the path or in the host name"
    )
    access_key: str | None = Field(
        None, description="none = credentials as the environment of the process gives them"
    )
    secret_key: SecretStr | None = Field(None, description="belongs to `access_key`")
    secret_key_file: Path | None = Field(None, description="file with `secret_key`")
    link_ttl_s: int = Field(
        604_800, ge=60, le=604_800, description="how long the signed link can be opened"
    )
    public_url: str | None = Field(None, pattern=_URL, description=_LINK + "a signed link")
    check_etag: bool = Field(
        default=True, description="false for stores whose ETag is not made of MD5 sums"
    )

    @model_validator(mode="after")
    def _whole_credentials(self) -> S3Destination:
        at_most_one(self, "secret_key", "secret_key_file")
        secret = self.secret_key is not None or self.secret_key_file is not None
        if secret != (self.access_key is not None):
            raise ValueError("access_key and secret_key are given together")
        return self


class SftpDestination(Section):
    """An SFTP server. Its key is checked, and never just believed."""

    kind: Literal["sftp"] = Field(description="says which kind this is")
    host: str = Field(min_length=1, description="name or address of the server")
    port: int = Field(22, ge=1, le=65535, description="its port")
    username: str = Field(min_length=1, description="whom to log in as")
    password: SecretStr | None = Field(None, description="or a key")
    password_file: Path | None = Field(None, description="file with `password`")
    private_key: SecretStr | None = Field(None, description="in OpenSSH's or PEM form")
    private_key_file: Path | None = Field(None, description="file with `private_key`")
    passphrase: SecretStr | None = Field(None, description="of the private key")
    passphrase_file: Path | None = Field(None, description="file with `passphrase`")
    known_hosts: Path | None = Field(
        None, description="file in the form of OpenSSH's known_hosts with the server's key"
    )
    host_key: str | None = Field(
        None, description="the server's public key itself, such as `ssh-ed25519 AAAA…`"
    )
    path: str = Field(
        ".", min_length=1, description="folder there, which has to exist; `.` = where one logs in"
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
            raise ValueError("one of password, private_key and their files is needed")
        if (self.known_hosts is None) == (self.host_key is None):
            raise ValueError("one of known_hosts and host_key is needed: the server is checked")
        return self


class DropboxDestination(Section):
    """A folder of a Dropbox account or app."""

    kind: Literal["dropbox"] = Field(description="says which kind this is")
    path: str = Field(
        "", pattern=r"^(/.*[^/])?$", description="folder, such as `/reports`; empty = the topmost"
    )
    app_key: str | None = Field(None, description="of the app, for `refresh_token`")
    app_secret: SecretStr | None = Field(None, description="of the app; none = authorized by PKCE")
    app_secret_file: Path | None = Field(None, description="file with `app_secret`")
    refresh_token: SecretStr | None = Field(None, description="from which access tokens are got")
    refresh_token_file: Path | None = Field(None, description="file with `refresh_token`")
    access_token: SecretStr | None = Field(
        None, description="instead of the above; Dropbox's end after four hours"
    )
    access_token_file: Path | None = Field(None, description="file with `access_token`")
    shared_link: bool = Field(
        default=True, description="make a link for everyone who has it; false = no link"
    )
    api_url: str | None = Field(
        None, pattern=_URL, description="of a stand-in for Dropbox, in tests; none = Dropbox's"
    )

    @model_validator(mode="after")
    def _credentials(self) -> DropboxDestination:
        for name in ("app_secret", "refresh_token", "access_token"):
            at_most_one(self, name, f"{name}_file")
        refresh = self.refresh_token is not None or self.refresh_token_file is not None
        access = self.access_token is not None or self.access_token_file is not None
        if refresh == access:
            raise ValueError("one of refresh_token and access_token is needed")
        if refresh and self.app_key is None:
            raise ValueError("refresh_token needs app_key")
        return self


AnyDestination = Annotated[
    FolderDestination | S3Destination | SftpDestination | DropboxDestination,
    Field(discriminator="kind"),
]


def at_most_one(section: Section, *names: str) -> None:
    """ValueError when several of these settings are given."""
    if sum(getattr(section, name) is not None for name in names) > 1:
        raise ValueError(f"only one of {' and '.join(names)} can be given")


def secret(section: Section, name: str) -> str | None:
    """A secret in clear: as it is given, or from its file, read anew. OSError without the file."""
    given: SecretStr | None = getattr(section, name)
    if given is not None:
        return given.get_secret_value()
    file: Path | None = getattr(section, f"{name}_file")
    return None if file is None else file.read_text(encoding="utf-8").strip()
