"""The bytes of bodies at work, of all requests together: in memory, or on a tmpfs, which is the same."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from serving.refusal import Refusal


class Holder(Protocol):
    """A request. ``held``: bytes of its body that are here; ``complete``: whether that is all of it."""

    client: str
    held: int
    complete: bool

    def give_way(self) -> None:
        """End it: others need its room."""


class Bodies:
    """At most ``most`` bytes at once, half of them of one client, but always one body of ``largest`` bytes.

    Where there is no room left, bodies that are still arriving give way to those of clients that hold less: else a few
    clients that send all but the end of theirs would lock out everybody.
    """

    def __init__(self, most: int, largest: int) -> None:
        self._most, self._most_of_a_client = max(most, largest), max(most // 2, largest)
        self._held = Counter[str]()  # by client
        self._holders: dict[Holder, None] = {}  # the oldest first

    def hold(self, holder: Holder, size: int) -> None:
        """Raises Refusal, holding no more than before, where these bytes are too many."""
        held = self._held[holder.client]
        if held + size > self._most_of_a_client or not self._make_room(holder, size):
            expected = f"at most {self._most} bytes of bodies, {self._most_of_a_client} of one client, at work at once"
            found = f"{self._held.total()} bytes, {held} of this client, and {size} more"
            headers = {"Retry-After": "1", "Connection": "close"}
            raise Refusal(429, "too many bytes at once", None, expected, found, headers)
        self._holders.setdefault(holder)
        self._held[holder.client] += size
        holder.held += size

    def release(self, holder: Holder) -> None:
        self._holders.pop(holder, None)
        self._held[holder.client] -= holder.held
        holder.held = 0
        if not self._held[holder.client]:
            del self._held[holder.client]

    def _make_room(self, holder: Holder, size: int) -> bool:
        while self._held.total() + size > self._most:
            own = self._held[holder.client] + size
            arriving = [each for each in self._holders if not each.complete and self._held[each.client] > own]
            if not arriving:
                return False
            greediest = max(arriving, key=lambda each: self._held[each.client])
            greediest.give_way()
            self.release(greediest)
        return True
