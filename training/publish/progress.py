"""How far each request to forget has come, as the ledger tells it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, get_args

from serving.ensemble.manifest import OpenRequests, Release
from training.publish.events import Cancelled, Certified, Entry, Published, Requested, Withdrawn
from training.publish.history import absent

Step = Literal["requested", "withdrawn", "published", "cancelled"]
STEPS: tuple[Step, ...] = get_args(Step)


@dataclass(frozen=True)
class Progress:
    """An entry ``requested``, and what came of it; a list that grew has one for each time.

    ``waiting``: shards that are to answer with all their slices again before it is done. Times are those of the
    ledger's entries, None where it has none yet.
    """

    asked: Requested
    waiting: frozenset[int] = frozenset()
    withdrawn: str | None = None
    published: str | None = None
    cancelled: str | None = None

    @property
    def step(self) -> Step:
        if self.cancelled is not None:
            return "cancelled"
        if self.published is not None:
            return "published"
        # Where its shards were pending already there was nothing left to withdraw.
        return "withdrawn" if self.withdrawn is not None or self.waiting else "requested"


@dataclass(frozen=True)
class Standing:
    """``requests``: all of them, in the order of the ledger.

    ``away``: by shard that does not answer with all its slices, the time since when.
    """

    requests: tuple[Progress, ...]
    away: Mapping[int, str]

    @property
    def open(self) -> tuple[Progress, ...]:
        """The requests that are neither done nor cancelled."""
        return tuple(each for each in self.requests if each.step in ("requested", "withdrawn"))


def follow(entries: Iterable[Entry]) -> Standing:
    """What the ledger comes to.

    A request waits for the shards whose withdrawal names it, and for those that were away when it came, which may
    have held its samples too. It is done when each of them has been published again.
    """
    opened: dict[int, Progress] = {}
    closed: dict[int, Progress] = {}
    away: dict[int, str] = {}
    for entry in entries:
        if isinstance(entry, Requested):
            opened[entry.number] = Progress(entry, frozenset(away))
        elif isinstance(entry, Withdrawn):
            for each in tuple(withdrawn_for(entry, opened, closed)):
                number, waiting = each.asked.number, each.waiting.union(entry.shards)
                opened.pop(number, None)
                closed.pop(number, None)
                # Where it waits for nothing no model that answers saw its samples: it is done.
                published = None if waiting else entry.time
                kept = opened if waiting else closed
                kept[number] = replace(
                    each, waiting=waiting, withdrawn=each.withdrawn or entry.time, published=published
                )
            if entry.generation is not None:
                away = {**dict.fromkeys(entry.shards, entry.time), **away}
        elif isinstance(entry, Published):
            away = {shard: away.get(shard, entry.time) for shard in sorted(absent(entry))}
            for number, each in list(opened.items()):
                opened[number] = replace(each, waiting=each.waiting.intersection(away))
                if not opened[number].waiting:
                    closed[number] = replace(opened.pop(number), published=entry.time)
        elif isinstance(entry, Cancelled):
            for number, each in list(opened.items()):
                if each.asked.request == entry.request:
                    closed[number] = replace(opened.pop(number), cancelled=entry.time)
    every = opened | closed
    return Standing(tuple(every[number] for number in sorted(every)), away)


def withdrawn_for(
    entry: Withdrawn, opened: Mapping[int, Progress], closed: Mapping[int, Progress]
) -> Iterator[Progress]:
    """The requests for which these models were withdrawn.

    A withdrawal names lists and requests. Of a list that grew it concerns what was added since the last one; else
    whatever of it is open; else, since a model that had seen its samples came back, the last of it that was done.
    """
    for name in entry.requests:
        named = [each for each in opened.values() if each.asked.request == name]
        done = [each for _, each in sorted(closed.items()) if each.asked.request == name and each.cancelled is None]
        yield from [each for each in named if each.withdrawn is None] or named or done[-1:]


def shards_touched(entries: Sequence[Entry], request: str) -> frozenset[int]:
    """The shards that were withdrawn for a request, and those that were away when it came: they may have held its
    samples, and there was nothing left to withdraw."""
    touched: set[int] = set()
    for position, entry in enumerate(entries):
        if isinstance(entry, Withdrawn) and request in entry.requests:
            touched |= set(entry.shards)
        elif isinstance(entry, Requested) and entry.request == request:
            touched |= set(follow(entries[:position]).away)
    return frozenset(touched)


def certified(entries: Sequence[Entry]) -> frozenset[str]:
    """Requests that a certificate names and that did not grow since."""
    named: dict[str, bool] = {}
    for entry in entries:
        if isinstance(entry, Certified):
            named.update(dict.fromkeys(entry.requests, True))
        elif isinstance(entry, Requested):
            named[entry.request] = False
    return frozenset(name for name, still in named.items() if still)


def open_requests(entries: Sequence[Entry], release: Release, *, trained: bool) -> OpenRequests | None:
    """What is open when this release has come out; None when nothing is.

    ``entries``: before the release's own. ``trained``: that one is ``published``, which is what requests wait for.
    """
    requests = follow(entries).open
    if trained:
        away = {shard.shard for shard in release.shards if shard.pending or shard.earlier_slice is not None}
        requests = tuple(each for each in requests if each.waiting & away)
    if not requests:
        return None
    return OpenRequests(number=len(requests), oldest=min(since(each) for each in requests))


def since(request: Progress) -> datetime:
    """When it was entered."""
    return datetime.fromisoformat(request.asked.time)
