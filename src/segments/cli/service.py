"""What commands that ask the service share: where it is, the token, JSON or tables."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Self, get_type_hints

import typer

from segments.cli.usage import UsageError
from segments.client import Retries, SegmentsClient
from segments.settings import Settings
from segments.settings.endpoints import base_url

PANEL = "Service"
TOKEN = "SEGMENTS_TOKEN"  # noqa: S105 - the name of a variable
TOKEN_FILE = "SEGMENTS_TOKEN_FILE"  # noqa: S105 - the name of a variable
URL = "SEGMENTS_URL"
# Someone waits: whether the service is there is told soon.
RETRIES = Retries(attempts=4, backoff_s=0.2, backoff_max_s=2.0)


class Options:
    """Options that belong together, as a frozen dataclass: each field is one."""

    @classmethod
    def parameters(cls) -> list[inspect.Parameter]:
        """As parameters of a command."""
        hints = get_type_hints(cls, include_extras=True)
        keyword = inspect.Parameter.KEYWORD_ONLY
        return [
            inspect.Parameter(each.name, keyword, default=each.default, annotation=hints[each.name])
            for each in fields(cls)  # type: ignore[arg-type]  # every subclass is a dataclass
        ]

    @classmethod
    def taken(cls, given: dict[str, Any]) -> Self:
        """Made of what a command was given; it is taken out."""
        names = [each.name for each in fields(cls)]  # type: ignore[arg-type]  # as above
        return cls(**{name: given.pop(name) for name in names})


@dataclass(frozen=True)
class ServiceOptions(Options):
    """Where the service is, who asks, and for whom the answer is."""

    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            envvar=URL,
            help="where the service is; none = from settings",
            rich_help_panel=PANEL,
        ),
    ] = None
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            envvar=TOKEN,
            help="bearer token; others see this command line: rather the variable, or a file",
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
        typer.Option("--timeout-s", min=0.1, max=3600, help="longest wait", rich_help_panel=PANEL),
    ] = 30.0
    json: Annotated[
        bool,
        typer.Option("--json", help="print JSON, and nothing else", rich_help_panel=PANEL),
    ] = False

    def connected(self) -> tuple[SegmentsClient, str]:
        """(client, where it asks)."""
        where = (self.url or base_url(Settings())).rstrip("/")
        try:
            client = SegmentsClient(
                where,
                token=self.token or read_token(self.token_file),
                timeout_s=self.timeout_s,
                retries=RETRIES,
            )
        except ValueError:
            raise typer.BadParameter(f"no URL such as http://127.0.0.1:8080: {where}") from None
        return client, where


def read_token(file: Path | None) -> str | None:
    """The token of a file. UsageError when it cannot be read."""
    if file is None:
        return None
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the token cannot be read from {file}: {error}") from None


@dataclass(frozen=True)
class Service:
    """The service a command asks. `json`: the answer is for a program."""

    client: SegmentsClient
    json: bool
    url: str


def asks_service(command: Callable[..., None]) -> Callable[..., None]:
    """A command with a first parameter `service`: it gets the options that make one.

    A parameter of a class of `Options` becomes an option for each of its fields.
    """
    hints = get_type_hints(command, include_extras=True)
    own: list[inspect.Parameter] = []
    grouped: dict[str, type[Options]] = {}
    for parameter in list(inspect.signature(command).parameters.values())[1:]:
        hint = hints[parameter.name]
        if isinstance(hint, type) and issubclass(hint, Options):
            grouped[parameter.name] = hint
            own += hint.parameters()
        else:
            keyword = inspect.Parameter.KEYWORD_ONLY
            own.append(parameter.replace(annotation=hint, kind=keyword))
    parameters = [*own, *ServiceOptions.parameters()]

    def called(**given: Any) -> None:
        options = ServiceOptions.taken(given)
        for name, kind in grouped.items():
            given[name] = kind.taken(given)
        client, where = options.connected()
        with client:
            command(Service(client, options.json, where), **given)

    described: Any = called
    described.__name__, described.__doc__ = command.__name__, command.__doc__
    described.__signature__ = inspect.Signature(parameters)
    described.__annotations__ = {each.name: each.annotation for each in parameters}
    return called
