"""Whose turn it is: fair among users, by priority among the jobs of one, and never too late.

Pure: it knows neither clocks nor devices; times are given, in seconds.

Among users the one comes next who has used the least: device-seconds divided by weight, older
ones counting less and less (half after `half_life`). Who comes back after a while may be ahead
of the others, or behind them, only by so much: otherwise one who was away for long would keep
the devices to himself, and one who used them alone would wait for hours. A user who has waited
longer than `patience` comes first, whatever the numbers say.

Among the jobs of one user the oldest comes first, where a priority makes a job older, and what
it was expected to take makes it younger, up to an hour: no small order waits for a large
one from before. So every job has its turn: those before it are finite in number.

A slot prefers what it has loaded, for so many seconds at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from onnxscape.jobs.executor import Slot


_LATE = 2.0
"""A user is overdue who waits for so many times what fair turns take, and longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConfig:
    """How turns are given.

    Attributes:
        half_life: Seconds after which used device time counts half.
        credit: Device-seconds that a user who comes (back) may be ahead of the others.
        debt: Device-seconds that such a user may be behind them.
        patience: Seconds after which a waiting user comes first; more if so many wait that no
            one could be served in that time.
        aging: Seconds that a job is older by for each step of its priority.
        yielding: Seconds that a job is younger by at most, for what it is expected to take.
        affinity: Seconds that a slot may go on with what it has loaded while others wait.
        chunk: Device-seconds of a chunk, roughly.
    """

    half_life: float = 4 * 3600.0
    credit: float = 30.0
    debt: float = 600.0
    patience: float = 60.0
    aging: float = 36.0
    yielding: float = 3600.0
    affinity: float = 5.0
    chunk: float = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A job as far as its turn depends on it.

    Attributes:
        job: Its ID.
        user: Whose it is.
        created: When it was ordered.
        priority: From 0 to 100, among the user's jobs.
        seconds: Device-seconds that it was expected to take when it was ordered.
        affinity: Equal for jobs of which a worker has much loaded.
        kind: Kind of device it must run on; None for any.
    """

    job: str
    user: str
    created: float
    priority: int = 0
    seconds: float = 0.0
    affinity: str = ""
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """What a free slot is to take up.

    Attributes:
        job: ID of the job to take.
        due: ID of the job whose turn it is; another one while the slot goes on with what it
            has loaded.
    """

    job: str
    due: str


@dataclass(slots=True)
class _User:
    """What is known of a user.

    Attributes:
        used: Device-seconds, decayed to the time `at`; with those of leases under way.
        at: The time.
        weight: Share, relative to that of others.
        waits_since: When one of his jobs began to wait without one being leased since.
        jobs: IDs of his jobs.
    """

    used: float = 0.0
    at: float = 0.0
    weight: float = 1.0
    waits_since: float | None = None
    jobs: set[str] = field(default_factory=set)


class Scheduler:
    """Says which job a free slot takes up next."""

    def __init__(
        self, config: SchedulerConfig | None = None, *, used: Mapping[str, float] | None = None
    ) -> None:
        """Start without jobs.

        Args:
            config: How turns are given.
            used: Decayed device-seconds of users so far, as of time 0 or whenever the
                first job comes.
        """
        self._config = config or SchedulerConfig()
        self._before = dict(used or {})
        self._users: dict[str, _User] = {}
        self._active: set[str] = set()
        self._tickets: dict[str, Ticket] = {}
        self._waiting: set[str] = set()
        self._level, self._level_at = 0.0, 0.0
        self._passing: dict[str, float] = {}
        self._favoured: dict[str, str] = {}
        self.slots = 1

    @property
    def waiting(self) -> Collection[str]:
        """IDs of the jobs that wait for a slot."""
        return self._waiting

    def add(self, ticket: Ticket, now: float) -> None:
        """Take a job on; it does not wait for a slot yet.

        Args:
            ticket: The job. One that is known gets the new ticket.
            now: The time.
        """
        user = self._user(ticket.user, now)
        if not user.jobs:
            self._welcome(user, now)
            self._active.add(ticket.user)
        user.jobs.add(ticket.job)
        self._tickets[ticket.job] = ticket

    def remove(self, job: str) -> None:
        """Forget a job.

        Args:
            job: Its ID; one that is not known changes nothing.
        """
        ticket = self._tickets.pop(job, None)
        if ticket is None:
            return
        self._waiting.discard(job)
        user = self._users[ticket.user]
        user.jobs.discard(job)
        if not user.jobs:
            self._active.discard(ticket.user)
        if not user.jobs & self._waiting:
            user.waits_since = None

    def set_waiting(self, job: str, waits: bool, now: float) -> None:
        """Say whether a job has points that wait for a slot.

        Args:
            job: Its ID; one that is not known changes nothing.
            waits: Whether it has.
            now: The time.
        """
        ticket = self._tickets.get(job)
        if ticket is None:
            return
        user = self._users[ticket.user]
        if waits:
            self._waiting.add(job)
            if user.waits_since is None:
                user.waits_since = now
        else:
            self._waiting.discard(job)
            if not user.jobs & self._waiting:
                user.waits_since = None

    def set_weight(self, user: str, weight: float, now: float) -> None:
        """Give a user another share.

        Args:
            user: The user.
            weight: Above 0; 1 for most.
            now: The time.
        """
        self._user(user, now).weight = weight

    def charge(self, user: str, seconds: float, now: float) -> None:
        """Count device time that a user uses; first what a lease will take, then the rest.

        Args:
            user: The user.
            seconds: How much; below 0 takes back what was counted too much.
            now: The time.
        """
        found = self._user(user, now)
        found.used = max(found.used + seconds, 0.0)

    def share(self, user: str, now: float) -> float:
        """Return what a user has used, in device-seconds divided by weight.

        Args:
            user: The user.
            now: The time.
        """
        found = self._user(user, now)
        return found.used / found.weight

    def pick(self, slot: Slot, loaded: Iterable[tuple[str, str]], now: float) -> Turn | None:
        """Return what a free slot takes up.

        Args:
            slot: The slot.
            loaded: IDs and affinities of the jobs that its worker has loaded.
            now: The time.

        Returns:
            Waiting jobs, or None if none may run there.
        """
        first = self._first_of_users(slot)
        self._favoured.pop(slot.name, None)
        if not first:
            self._passing.pop(slot.name, None)
            return None
        users = sorted(
            first, key=lambda user: (self.share(user, now), self._since(user), user)
        )
        self._raise_level(min(self._active_shares(now)), now)
        overdue = self._overdue(users, now)
        if overdue:
            late = first[min(overdue, key=lambda user: (self._since(user), user))].job
            return Turn(late, late)
        return self._near(slot, first[users[0]], users, list(loaded), now)

    def took(self, job: str, slot: Slot, now: float) -> None:
        """Say that points of a picked job were leased: its user's waiting begins anew.

        Args:
            job: Its ID.
            slot: Where.
            now: The time.
        """
        if self._favoured.get(slot.name) != job:
            self._passing.pop(slot.name, None)
        user = self._users[self._tickets[job].user]
        user.waits_since = now if user.jobs & self._waiting else None

    def _near(
        self,
        slot: Slot,
        fair: Ticket,
        users: list[str],
        loaded: list[tuple[str, str]],
        now: float,
    ) -> Turn:
        """Return the job whose turn it is, or one that is loaded, if that was not too long."""
        jobs = {job for job, _ in loaded}
        kinds = {affinity for _, affinity in loaded}

        def distance(ticket: Ticket) -> int:
            return 0 if ticket.job in jobs else 1 if ticket.affinity in kinds else 2

        rank = {user: n for n, user in enumerate(users)}
        nearest = min(
            (t for t in self._candidates(slot) if t.user in rank),
            key=lambda t: (distance(t), rank[t.user], self.age(t)),
        )
        if distance(nearest) < distance(fair):
            since = self._passing.setdefault(slot.name, now)
            if now - since < self._config.affinity:
                self._favoured[slot.name] = nearest.job
                return Turn(nearest.job, fair.job)
        return Turn(fair.job, fair.job)

    def _candidates(self, slot: Slot) -> Iterable[Ticket]:
        kind = slot.device.partition(":")[0]
        for job in self._waiting:
            ticket = self._tickets[job]
            if ticket.kind in {None, kind}:
                yield ticket

    def _first_of_users(self, slot: Slot) -> dict[str, Ticket]:
        """Return for each user with jobs that wait for such a slot the one to come first."""
        first: dict[str, Ticket] = {}
        for ticket in self._candidates(slot):
            best = first.get(ticket.user)
            if best is None or self.age(ticket) < self.age(best):
                first[ticket.user] = ticket
        return first

    def age(self, ticket: Ticket) -> tuple[float, str]:
        """Return what jobs of one user are ordered by: the lowest comes first.

        Args:
            ticket: Of a job, known or not.
        """
        older = ticket.priority * self._config.aging
        younger = min(max(ticket.seconds, 0.0), self._config.yielding)
        return ticket.created - older + younger, ticket.job

    def _since(self, user: str) -> float:
        since = self._users[user].waits_since
        return 0.0 if since is None else since

    def _overdue(self, users: list[str], now: float) -> list[str]:
        """Return the users who have waited for longer than fair turns take."""
        weights = sum(self._users[user].weight for user in self._active)
        cycle = _LATE * self._config.chunk * weights / max(self.slots, 1)
        return [
            user
            for user in users
            if now - self._since(user)
            > self._config.patience + cycle / self._users[user].weight
        ]

    def _user(self, name: str, now: float) -> _User:
        """Return a user, decayed to a time."""
        user = self._users.get(name)
        if user is None:
            user = self._users[name] = _User(used=self._before.pop(name, 0.0), at=now)
        user.used *= self._decay(user.at, now)
        user.at = max(user.at, now)
        return user

    def _decay(self, since: float, now: float) -> float:
        halvings = max(now - since, 0.0) / self._config.half_life
        return float(2.0**-halvings)

    def _raise_level(self, share: float, now: float) -> float:
        """Return the level of those who are served, which never falls but by decay.

        Otherwise each newcomer would start a bit lower than the one before.
        """
        self._level *= self._decay(self._level_at, now)
        self._level_at = max(self._level_at, now)
        self._level = max(self._level, share)
        return self._level

    def _welcome(self, user: _User, now: float) -> None:
        """Put a user who comes (back) where the others are, roughly."""
        shares = self._active_shares(now)
        level = self._raise_level(min(shares, default=0.0), now)
        share = max(user.used / user.weight, level - self._config.credit)
        if shares:
            share = min(share, level + self._config.debt)
        user.used = share * user.weight

    def _active_shares(self, now: float) -> list[float]:
        return [self.share(name, now) for name in self._active]


def chunk_size(seconds_per_point: float, seconds: float, most: int) -> int:
    """Return how many points make a chunk.

    Args:
        seconds_per_point: As far as known; 0 or NaN if it is not.
        seconds: What the chunk should take.
        most: Points that it may have.

    Returns:
        At least one; one if nothing is known.
    """
    if not seconds_per_point > 0:
        return 1
    return int(min(max(seconds / seconds_per_point, 1.0), most))
