"""Rejects environment variables that look like settings but are none, and suggests a name.

Without this check the default would silently be used instead of a misspelled variable.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from segments.settings.sources import ENV_PREFIX, NOT_SETTINGS

_FILE_SUFFIX = "_FILE"
# Kubernetes sets variables for each service of the namespace; one may be named `segments`.
_OF_KUBERNETES = re.compile(r".*(_SERVICE_(HOST|PORT)(_\w+)?|_PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_ADDRESS = re.compile(r"(tcp|udp|sctp)://.*")


class UnknownSettingError(ValueError):
    """Variables that are not settings; the message names each and suggests a correct name."""


def require_known(settings: type[BaseModel], environment: Mapping[str, str] = os.environ) -> None:
    """Raise UnknownSettingError for variables with the prefix of settings that are none."""
    known = set(_variables(settings, ENV_PREFIX))
    unknown = [
        variable
        for variable, value in environment.items()
        if variable.upper().startswith(ENV_PREFIX)
        and not _is_known(variable.upper(), known)
        and not _is_of_kubernetes(variable.upper(), value)
    ]
    if unknown:
        raise UnknownSettingError(
            "\n".join(_describe_unknown(variable, known) for variable in sorted(unknown))
        )


def _variables(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        variable = prefix + name.upper()
        yield variable
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _variables(field.annotation, variable + "__")


def _is_known(variable: str, known: set[str]) -> bool:
    names = {variable, variable.removesuffix(_FILE_SUFFIX)}
    if variable in NOT_SETTINGS or names & known:
        return True
    # Below a section only its fields exist; below a setting that is an object any name may.
    above = variable.rpartition("__")[0]
    while above:
        if above in known:
            return not any(each.startswith(above + "__") for each in known)
        above = above.rpartition("__")[0]
    return False


def _is_of_kubernetes(variable: str, value: str) -> bool:
    named = _OF_KUBERNETES.fullmatch(variable) is not None
    return named or (variable.endswith("_PORT") and _ADDRESS.fullmatch(value) is not None)


def _describe_unknown(variable: str, known: set[str]) -> str:
    ending = _FILE_SUFFIX if variable.upper().endswith(_FILE_SUFFIX) else ""
    name = variable.upper().removesuffix(ending)
    nearest = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    advice = f"did you mean {nearest[0]}{ending}?" if nearest else "see segments settings"
    return f"{variable} is not a setting: {advice}"
