"""Quota and its use in a tree of cohorts: what is free to a queue, and what is lent.

A node's quota is its own and what its children lend it. What a child may not lend stays with the child, and is used first.
The quantities are lists, indexed by the number of a flavor's resource (`Resources`).
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from modelops.domains.compute.allocator.model import UNIT, ClusterQueue, Cohort, Quota, ResourceGroup

if TYPE_CHECKING:
    from modelops.domains.compute.allocator.queues import QueueNode


_NO_QUOTA = Quota(0)


class Resources:
    """Numbers for the resources of flavors: `(flavor, resource)` to a number, and back."""

    __slots__ = ("names", "numbers")

    def __init__(self) -> None:
        self.names: list[tuple[str, str]] = []
        self.numbers: dict[tuple[str, str], int] = {}

    def number(self, flavor: str, resource: str) -> int:
        """Return the number of a flavor's resource, a new one where it was unknown."""
        found = self.numbers.get((flavor, resource))
        if found is None:
            found = self.numbers[flavor, resource] = len(self.names)
            self.names.append((flavor, resource))
        return found


class Node:
    """A cluster queue or a cohort: its quota and what is used of it.

    `nominal`: its own quota; `quota`: with what its children lend; `kept`: the part of `quota` that its parent never sees;
    `used`: a queue's usage, a cohort's is what its children use beyond what they keep.
    """

    __slots__ = (
        "borrowing",
        "height",
        "kept",
        "lendable",
        "limit",
        "name",
        "nominal",
        "parent",
        "quota",
        "used",
        "weight",
    )

    def __init__(self, name: str, groups: Iterable[ResourceGroup], weight: int, resources: Resources) -> None:
        self.name = name
        self.weight = weight
        self.parent: CohortNode | None = None
        self.height = 0
        self.lendable: dict[str, int] = {}
        own = {
            resources.number(each.flavor, resource): each.resources.get(resource, _NO_QUOTA)
            for group in groups
            for each in group.flavors
            for resource in {*group.covered, *each.resources}
        }
        width = max(own, default=-1) + 1
        self.nominal = [own[number].nominal if number in own else 0 for number in range(width)]
        self.borrowing = [own[number].borrowing_limit if number in own else None for number in range(width)]
        self.limit = [own[number].lending_limit if number in own else None for number in range(width)]
        self.quota: list[int] = []
        self.kept: list[int] = []
        self.used: list[int] = []

    def widen(self, width: int) -> None:
        """Make room for the resources of `width` numbers; nothing is used then."""
        missing = width - len(self.nominal)
        self.nominal += [0] * missing
        self.borrowing += [None] * missing
        self.limit += [None] * missing
        self.quota, self.kept, self.used = [0] * width, [0] * width, [0] * width

    def settle_quota(self, children: Iterable["Node"]) -> None:
        """Sum up the quota, once that of the children is."""
        self.quota = list(self.nominal)
        for child in children:
            for number, quota in enumerate(child.quota):
                self.quota[number] += quota - child.kept[number]
        self.kept = [
            0 if limit is None else max(0, quota - limit) for quota, limit in zip(self.quota, self.limit, strict=True)
        ]

    def path(self) -> Iterator["CohortNode"]:
        """Yield the cohorts above, from the parent to the root."""
        node = self.parent
        while node is not None:
            yield node
            node = node.parent

    def available(self, number: int) -> int:
        """Return how much more may be used here; below 0 where too much is used."""
        parent, used = self.parent, self.used[number]
        if parent is None:
            return self.quota[number] - used
        flat = parent.parent is None  # spares a call where cohorts are
        above = parent.quota[number] - parent.used[number] if flat else parent.available(number)
        kept, borrowing = self.kept[number], self.borrowing[number]
        if borrowing is not None:
            room = self.quota[number] - kept + borrowing
            if used > kept:
                room -= used - kept
            if room < above:
                above = room
        return above + kept - used if kept > used else above

    def capacity(self, number: int) -> int:
        """Return how much could be used here if nothing were used anywhere."""
        if self.parent is None:
            return self.quota[number]
        free = self.kept[number] + self.parent.capacity(number)
        borrowing = self.borrowing[number]
        return free if borrowing is None else min(free, self.quota[number] + borrowing)

    def own_free(self, number: int) -> int:
        """Return how much of what it keeps to itself is not used."""
        return max(0, self.kept[number] - self.used[number])

    def borrows_with(self, number: int, amount: int) -> bool:
        """Tell whether it would use more than its quota with `amount` more."""
        return self.used[number] + amount > self.quota[number]

    def within(self, numbers: Iterable[int]) -> bool:
        """Tell whether it uses no more than its quota of any of these."""
        for number in numbers:  # noqa: SIM110 -- a generator would cost more than the comparison
            if self.used[number] > self.quota[number]:
                return False
        return True

    def add(self, number: int, amount: int) -> None:
        """Use `amount` more, and of the parents' what goes beyond what is kept."""
        node: Node | None = self
        while node is not None:
            used = node.used[number]
            node.used[number] = used + amount
            own = node.kept[number] - used
            if own > 0:
                amount -= own
                if amount <= 0:
                    return
            node = node.parent

    def remove(self, number: int, amount: int) -> None:
        """Use `amount` less: the reverse of `add`."""
        node: Node | None = self
        while node is not None:
            beyond = node.used[number] - node.kept[number]
            node.used[number] -= amount
            if beyond <= 0:
                return
            if amount > beyond:
                amount = beyond
            node = node.parent

    def fits_in_quota(self, amounts: Iterable[tuple[int, int]]) -> tuple[bool, list[tuple[int, int]]]:
        """Tell whether `amounts` fit in the quota here, and return what of them goes to the parent."""
        fits, rest = True, []
        for number, amount in amounts:
            fits = fits and self.used[number] + amount <= self.quota[number]
            own = self.kept[number] - self.used[number]
            rest.append((number, max(0, amount - own) if own > 0 else amount))
        return fits, rest

    def lowest_fit(self, number: int, amount: int) -> tuple[int, bool]:
        """Return the height of the lowest node above a queue whose quota has room for `amount` more (0: its own), and whether
        that is not yet the whole tree."""
        if self.parent is None or not self.borrows_with(number, amount):
            return 0, self.parent is not None
        amount -= self.own_free(number)
        root = self.parent
        for node in self.path():
            if not node.borrows_with(number, amount):
                return node.height, node.parent is not None
            amount -= node.own_free(number)
            root = node
        return root.height, False

    def root(self) -> "Node":
        """Return the top of the tree."""
        node: Node = self
        while node.parent is not None:
            node = node.parent
        return node


class CohortNode(Node):
    """A cohort in the tree."""

    __slots__ = ("cohorts", "queues")

    def __init__(self, cohort: Cohort, resources: Resources) -> None:
        super().__init__(cohort.name, cohort.groups, cohort.fair_weight, resources)
        self.cohorts: list[CohortNode] = []
        self.queues: list[QueueNode] = []

    def settle(self, width: int) -> None:
        """Sum up quotas and heights from the leaves on."""
        self.widen(width)
        for queue in self.queues:
            queue.widen(width)
            queue.settle_quota(())
        for cohort in self.cohorts:
            cohort.settle(width)
        self.settle_quota([*self.cohorts, *self.queues])
        self.height = max((cohort.height + 1 for cohort in self.cohorts), default=min(len(self.queues), 1))

    def settle_lendable(self, names: list[tuple[str, str]]) -> None:
        """Sum up, by resource, what could be used here if nothing were used anywhere."""
        for number, (_, resource) in enumerate(names):
            self.lendable[resource] = self.lendable.get(resource, 0) + self.capacity(number)
        for cohort in self.cohorts:
            cohort.settle_lendable(names)


def circle(cohorts: Iterable[Cohort]) -> tuple[str, ...]:
    """Return the cohorts that are their own ancestors; none in a proper tree."""
    parents = {cohort.name: cohort.parent for cohort in cohorts}
    found = []
    for name in parents:
        above, seen = parents[name], {name}
        while above is not None and above not in seen:
            seen.add(above)
            above = parents.get(above)
        if above == name:
            found.append(name)
    return tuple(sorted(found))


def plant(cohorts: Iterable[Cohort], queues: Iterable[ClusterQueue], resources: Resources) -> dict[str, CohortNode]:
    """Return the cohorts' nodes by name, joined to trees; those that are only named by others, too.

    Raises:
        ValueError: A cohort is its own ancestor.
    """
    known = {cohort.name: cohort for cohort in cohorts}
    named = [cohort.parent for cohort in known.values()] + [queue.cohort for queue in queues]
    for name in named:
        if name is not None and name not in known:
            known[name] = Cohort(name, fair_weight=UNIT)
    if looped := circle(known.values()):
        raise ValueError(f"cohorts that are their own ancestors: {', '.join(looped)}")
    nodes = {name: CohortNode(cohort, resources) for name, cohort in sorted(known.items())}
    for name, node in nodes.items():
        parent = known[name].parent
        if parent is not None:
            node.parent = nodes[parent]
            nodes[parent].cohorts.append(node)
    return nodes
