"""The bytes of bodies at work, of all requests together: in memory, or on a tmpfs, which is the same."""

from __future__ import annotations

from collections import Counter

from serving.refusal import Refusal


class Bodies:
    """At most ``most`` bytes at once, half of them of one client, but always one body of ``largest`` bytes."""

    def __init__(self, most: int, largest: int) -> None:
        self._most, self._most_of_a_client = max(most, largest), max(most // 2, largest)
        self._held: Counter[str] = Counter()  # by client
        self._total = 0

    def hold(self, client: str, size: int) -> None:
        """Raises Refusal, holding nothing, where these bytes are too many."""
        held = self._held[client]
        if self._total + size > self._most or held + size > self._most_of_a_client:
            expected = f"at most {self._most} bytes of bodies, {self._most_of_a_client} of one client, at work at once"
            found = f"{self._total} bytes, {held} of this client, and {size} more"
            headers = {"Retry-After": "1", "Connection": "close"}
            raise Refusal(429, "too many bytes at once", None, expected, found, headers)
        self._held[client] += size
        self._total += size

    def release(self, client: str, size: int) -> None:
        self._total -= size
        self._held[client] -= size
        if not self._held[client]:
            del self._held[client]
