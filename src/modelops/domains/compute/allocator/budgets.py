"""Budgets: what their holders hold at once, over all the queues that are charged to them, and what more they may.

A local queue's own limits are the budget of that queue alone. Who would get past a budget waits, and nobody gives way for him:
it is his own that he waits for.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelops.domains.compute.allocator.model import Budget, LocalQueue
from modelops.domains.compute.allocator.tree import Resources

if TYPE_CHECKING:
    from modelops.domains.compute.allocator.queues import Item, QueueNode

Amounts = Iterable[tuple[int, int]]
"""Quantities by the number of a flavor's resource."""


@dataclass(frozen=True, slots=True)
class Over:
    """That a budget does not allow so much of a resource, in one flavor or (none) in all together."""

    account: "Account"
    flavor: str | None
    resource: str
    used: int
    asked: int
    limit: int


class Account:
    """A budget and what is held of it. `queues`: where those wait who are charged to it. `local`: whether it is that of a local
    queue alone."""

    __slots__ = ("_flavored", "_held", "_limits", "_names", "_used", "local", "name", "queues", "told")

    def __init__(self, budget: Budget, resources: Resources, *, local: bool = False) -> None:
        self.name = budget.name
        self.told = budget.told or budget.name
        self.local = local
        self.queues: dict[QueueNode, None] = {}
        self._names = resources.names
        self._limits = {resource: limit for (flavor, resource), limit in budget.limits.items() if flavor is None}
        self._flavored = {
            resources.number(flavor, resource): limit
            for (flavor, resource), limit in budget.limits.items()
            if flavor is not None
        }
        self._used: dict[str, int] = {}
        self._held: dict[int, int] = {}

    def lacks(self, totals: Mapping[str, int]) -> Over | None:
        """Return the first resource of which there may not be so much more, whatever its flavor."""
        for resource, amount in totals.items():
            limit, used = self._limits.get(resource), self._used.get(resource, 0)
            if limit is not None and used + amount > limit:
                return Over(self, None, resource, used, amount, limit)
        return None

    def lacks_of(self, number: int, amount: int) -> Over | None:
        """Return that there may not be so much more in this flavor, if it is so."""
        limit, held = self._flavored.get(number), self._held.get(number, 0)
        if limit is None or held + amount <= limit:
            return None
        return Over(self, *self._names[number], held, amount, limit)

    def resource_of(self, number: int) -> str:
        """Return the resource that a number stands for."""
        return self._names[number][1]

    def charge(self, amounts: Amounts, beside: Mapping[str, int], sign: int) -> None:
        """Count what is held (`sign` 1), or given back (-1)."""
        for number, amount in amounts:
            resource = self.resource_of(number)
            self._held[number] = self._held.get(number, 0) + sign * amount
            self._used[resource] = self._used.get(resource, 0) + sign * amount
        for resource, amount in beside.items():
            self._used[resource] = self._used.get(resource, 0) + sign * amount


def open_accounts(
    budgets: Iterable[Budget], local_queues: Iterable[LocalQueue], resources: Resources
) -> dict[str, tuple[Account, ...]]:
    """Return the accounts to which the workloads of local queues are charged, by the queues' names."""
    shared = {budget.name: Account(budget, resources) for budget in budgets if budget.limits}
    found = {}
    for queue in local_queues:
        own: list[Account] = []
        if queue.limits:
            limits: dict[tuple[str | None, str], int] = {(None, name): limit for name, limit in queue.limits.items()}
            own.append(Account(Budget(queue.name, limits), resources, local=True))
        own += [shared[name] for name in queue.budgets if name in shared]
        if own:
            found[queue.name] = tuple(own)
    return found


def over_budget(item: "Item", counts: Iterable[int] | None = None) -> Over | None:
    """Return the first budget that does not allow what a workload asks for, with `counts` pods of its sets (none: all),
    whatever flavors it gets."""
    totals = dict(item.plan.totals) if counts is None else _totals(item, counts)
    for resource, amount in item.workload.beside.items():
        totals[resource] = totals.get(resource, 0) + amount
    return next((over for account in item.accounts if (over := account.lacks(totals)) is not None), None)


def within_budgets(item: "Item", amounts: Amounts) -> bool:
    """Tell whether all budgets of a workload, of which there are some, allow what was chosen for it."""
    chosen = tuple(amounts)
    totals = dict(item.workload.beside)
    for number, amount in chosen:
        resource = item.accounts[0].resource_of(number)
        totals[resource] = totals.get(resource, 0) + amount
    return not any(
        account.lacks(totals) or any(account.lacks_of(number, amount) for number, amount in chosen)
        for account in item.accounts
    )


def _totals(item: "Item", counts: Iterable[int]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for pod_set, count in zip(item.workload.pod_sets, counts, strict=True):
        for resource, amount in pod_set.requests.items():
            totals[resource] = totals.get(resource, 0) + amount * count
        for resource, amount in pod_set.once.items():
            totals[resource] = totals.get(resource, 0) + amount
    return totals
