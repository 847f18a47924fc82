"""Commands that call the service over HTTP: their common options and the client."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import typer
from typer.core import TyperCommand
from typer.main import get_command

from segments.cli.usage import UsageError
from segments.client import Retries, SegmentsClient
from segments.settings import Settings
from segments.settings.endpoints import base_url

PANEL = "Service"
TOKEN = "SEGMENTS_TOKEN"  # noqa: S105 - the name of a variable
TOKEN_FILE = "SEGMENTS_TOKEN_FILE"  # noqa: S105 - the name of a variable
URL = "SEGMENTS_URL"
# Fewer retries than by default, so that an unreachable service is reported soon.
RETRIES = Retries(attempts=4, backoff_s=0.2, backoff_max_s=2.0)


@dataclass(frozen=True)
class ServiceOptions:
    """URL, credentials, timeout and output format; each field is an option."""

    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            envvar=URL,
            help="URL of the service; default from settings",
            rich_help_panel=PANEL,
        ),
    ] = None
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            envvar=TOKEN,
            help="bearer token; rather use the variable or a file, which other users cannot see",
            rich_help_panel=PANEL,
        ),
    ] = field(default=None, repr=False)
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", envvar=TOKEN_FILE, help="file with the token", rich_help_panel=PANEL
        ),
    ] = None
    timeout_s: Annotated[
        float,
        typer.Option(
            "--timeout-s", min=0.1, max=3600, help="longest wait, in seconds", rich_help_panel=PANEL
        ),
    ] = 30.0
    json: Annotated[
        bool,
        typer.Option("--json", help="print JSON only", rich_help_panel=PANEL),
    ] = False

    def client(self) -> tuple[SegmentsClient, str]:
        """(client, base URL). typer.BadParameter for an invalid URL."""
        base = (self.url or base_url(Settings())).rstrip("/")
        try:
            client = SegmentsClient(
                base,
                token=self.token or read_token(self.token_file),
                timeout_s=self.timeout_s,
                retries=RETRIES,
            )
        except ValueError:
            raise typer.BadParameter(f"not a URL such as http://127.0.0.1:8080: {base}") from None
        return client, base


def read_token(file: Path | None) -> str | None:
    """Read the token from a file. UsageError if that fails."""
    if file is None:
        return None
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the token from {file}: {error}") from None


@dataclass(frozen=True)
class Service:
    """The service that a command calls. `json`: print JSON instead of tables."""

    client: SegmentsClient
    json: bool
    url: str


T = TypeVar("T")


class ServiceCommand(TyperCommand):
    """A command that also has the options of `groups`, dataclasses of annotated options.

    Its function takes the `typer.Context` and calls `service_of` and `options_of`.
    """

    groups: ClassVar[tuple[type, ...]] = (ServiceOptions,)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Each group becomes a command of its own, which parses the options and builds the group.
        self._parsers: dict[type, Any] = {group: _parser(group) for group in self.groups}
        for parser in self._parsers.values():
            self.params = [*self.params, *parser.params]

    def invoke(self, ctx: Any) -> Any:
        for group, parser in self._parsers.items():
            given = {option.name: ctx.params.pop(option.name) for option in parser.params}
            ctx.meta[group.__name__] = parser.callback(**given)
        return super().invoke(ctx)


@cache
def _parser(group: type) -> Any:
    app = typer.Typer(add_completion=False)
    app.command()(group)
    return get_command(app)


def options_of(context: typer.Context, group: type[T]) -> T:
    """The options of a group that the command was called with."""
    found: T = context.meta[group.__name__]
    return found


def service_of(context: typer.Context) -> Service:
    """The service; its client is closed at the end of the command."""
    options = options_of(context, ServiceOptions)
    client, url = options.client()
    return Service(context.with_resource(client), options.json, url)
