"""The queue of checks: bounded for all and for each user, and users take turns in it."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field

from onnxscape.errors import ServerBusyError


@dataclass(slots=True, eq=False)
class Place:
    """The place of a check in the queue, until it is left.

    Attributes:
        user: Whose check it is.
        going: Whether it is the check's turn.
    """

    user: str
    going: bool = False
    _called: asyncio.Event = field(default_factory=asyncio.Event)

    async def turn(self) -> None:
        """Wait until it is the check's turn."""
        await self._called.wait()

    def call(self) -> None:
        """Say that it is the check's turn."""
        self.going = True
        self._called.set()


class CheckQueue:
    """Checks under way, and those that wait."""

    def __init__(self, *, parallel: int, waiting: int, of_user: int) -> None:
        """Make an empty queue.

        Args:
            parallel: Checks that may be under way.
            waiting: Checks that may wait.
            of_user: Checks of one user that may be under way or wait.
        """
        self._free = parallel
        self._most = waiting
        self._most_of_user = of_user
        self._places: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[Place]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many checks wait."""
        return sum(map(len, self._waiting.values()))

    def enter(self, user: str) -> Place:
        """Take a place.

        Args:
            user: For whom.

        Returns:
            The place; to be left when the check has ended.

        Raises:
            ServerBusyError: If there is none.
        """
        if self._places[user] >= self._most_of_user:
            raise ServerBusyError(
                f"{self._most_of_user} orders, models and data sets of yours are being "
                "checked or wait for it already; try again when one of them is done"
            )
        if not self._free and self.waiting >= self._most:
            raise ServerBusyError(
                f"{self.waiting} orders, models and data sets wait for their check already; "
                "try again in a few seconds"
            )
        place = Place(user)
        self._places[user] += 1
        self._waiting.setdefault(user, deque()).append(place)
        self._call_next()
        return place

    def leave(self, place: Place) -> None:
        """Give a place back.

        Args:
            place: Of a check that has ended, whether it had its turn or not.
        """
        self._places[place.user] -= 1
        if not self._places[place.user]:
            del self._places[place.user]
        if place.going:
            self._free += 1
        else:
            self._waiting[place.user].remove(place)
            if not self._waiting[place.user]:
                del self._waiting[place.user]
        self._call_next()

    def _call_next(self) -> None:
        while self._free and self._waiting:
            user, places = self._waiting.popitem(last=False)
            places.popleft().call()
            self._free -= 1
            if places:
                self._waiting[user] = places  # behind all others
