"""How quotas, labels and tolerations are written as options of a command."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import typer
from pydantic import ValidationError

from modelops.contracts.schemas import Schema
from modelops.domains.compute.schemas import FlavorQuotas, QuotaSpec, Resource, ResourceGroup, TolerationSpec

S = TypeVar("S", bound=Schema)

_QUOTA = re.compile(
    r"(?P<flavor>[^:=]+):(?P<resource>[a-z_]+)=(?P<nominal>[0-9.]+)(?:,borrow=(?P<borrow>[0-9.]+))?(?:,lend=(?P<lend>[0-9.]+))?"
)
_TOLERATION = re.compile(r"(?P<key>[^=:]*)(?:=(?P<value>[^:]*))?(?::(?P<effect>[A-Za-z]*))?")


def read_quotas(options: Sequence[str] | None) -> list[ResourceGroup]:
    """Read `FLAVOR:RESOURCE=AMOUNT[,borrow=AMOUNT][,lend=AMOUNT]`, in the order in which flavors are tried. Flavors of the
    same resources are one group."""
    by_flavor: dict[str, dict[Resource, QuotaSpec]] = {}
    for option in options or []:
        match = _QUOTA.fullmatch(option)
        if match is None:
            raise typer.BadParameter(f"'{option}' is no quota: FLAVOR:RESOURCE=AMOUNT[,borrow=AMOUNT][,lend=AMOUNT].")
        said = match.groupdict()
        quota = {"nominal": said["nominal"], "borrowing_limit": said["borrow"], "lending_limit": said["lend"]}
        by_flavor.setdefault(said["flavor"], {})[_resource(said["resource"])] = checked(QuotaSpec, quota)
    groups: dict[frozenset[Resource], list[FlavorQuotas]] = {}
    for flavor, quotas in by_flavor.items():
        groups.setdefault(frozenset(quotas), []).append(FlavorQuotas(flavor=flavor, quotas=quotas))
    return [ResourceGroup(flavors=flavors) for flavors in groups.values()]


def read_limits(options: Sequence[str] | None) -> dict[Resource, float]:
    """Read `RESOURCE=AMOUNT`."""
    limits = {}
    for option in options or []:
        resource, _, amount = option.partition("=")
        try:
            limits[_resource(resource)] = float(amount)
        except ValueError:
            raise typer.BadParameter(f"'{option}' is no limit: RESOURCE=AMOUNT, such as gpu_shares=4.") from None
    return limits


def read_quota_limits(options: Sequence[str] | None) -> list[dict[str, Any]]:
    """Read `[FLAVOR:]RESOURCE=AMOUNT`; without a flavor, in all together."""
    found: list[dict[str, Any]] = []
    for option in options or []:
        what, equals, amount = option.rpartition("=")
        flavor, colon, resource = what.rpartition(":")
        if not equals or (colon and not flavor):
            raise typer.BadParameter(f"'{option}' is no limit: [FLAVOR:]RESOURCE=AMOUNT, such as jobs=10.")
        found.append({"resource": resource, "flavor": flavor or None, "limit": amount})
    return found


def read_tolerations(options: Sequence[str] | None) -> list[TolerationSpec]:
    """Read `KEY[=VALUE][:EFFECT]`; without a value, any is tolerated."""
    found = []
    for option in options or []:
        match = _TOLERATION.fullmatch(option)
        if match is None:
            raise typer.BadParameter(f"'{option}' is no toleration: KEY[=VALUE][:EFFECT].")
        said = {name: part or "" for name, part in match.groupdict().items()}
        operator = "Equal" if "=" in option else "Exists"
        found.append(checked(TolerationSpec, {**said, "operator": operator}))
    return found


def read_file(kind: type[S], file: Path) -> S:
    """Read a whole specification from a JSON file: what `--json` printed of another one may be changed and given back."""
    try:
        said = json.loads(file.read_text())
    except (OSError, ValueError) as wrong:
        raise typer.BadParameter(f"{file} cannot be read as JSON: {wrong}") from wrong
    fields = {name: said[name] for name in kind.model_fields if isinstance(said, dict) and name in said}
    return checked(kind, fields)


def checked(kind: type[S], said: dict[str, Any]) -> S:
    """Return what options say, or tell what of it cannot be."""
    try:
        return kind.model_validate(said)
    except ValidationError as wrong:
        first = wrong.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise typer.BadParameter(f"{where}: {first['msg']}" if where else first["msg"]) from wrong


def _resource(name: str) -> Resource:
    try:
        return Resource(name)
    except ValueError:
        raise typer.BadParameter(f"'{name}' is no resource; there are {', '.join(Resource)}.") from None
