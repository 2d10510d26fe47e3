"""How far each request to forget has come, as the ledger tells it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, get_args

from serving.ensemble.manifest import OpenRequests, Release
from training.publish.events import Cancelled, Certified, Entry, Published, Purged, Requested, Verified, Withdrawn
from training.publish.history import absent

Step = Literal["requested", "withdrawn", "published", "cancelled"]
STEPS: tuple[Step, ...] = get_args(Step)


@dataclass(frozen=True)
class Progress:
    """An entry ``requested``, and what came of it; a list that grew has one for each time.

    ``touched``: shards that were withdrawn for it, and those that were away when it came: they may have held its
    samples, and there was nothing left to withdraw. ``waiting``: those of them that are to answer with all their slices
    again before it is done. ``verified``: since then, its shards were trained from scratch and nothing failed;
    ``purged``: no trace was left. Times are those of the ledger's entries, None where it has none yet.
    """

    asked: Requested
    touched: frozenset[int] = frozenset()
    waiting: frozenset[int] = frozenset()
    withdrawn: str | None = None
    published: str | None = None
    verified: str | None = None
    purged: str | None = None
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
            opened[entry.number] = Progress(entry, frozenset(away), frozenset(away))
        elif isinstance(entry, Withdrawn):
            take_away(entry, opened, closed)
            if entry.generation is not None:
                away = {**dict.fromkeys(entry.shards, entry.time), **away}
        elif isinstance(entry, Published):
            away = {shard: away.get(shard, entry.time) for shard in sorted(absent(entry))}
            for number, each in list(opened.items()):
                opened[number] = replace(each, waiting=each.waiting.intersection(away))
                if not opened[number].waiting:
                    closed[number] = replace(opened.pop(number), published=entry.time)
        elif isinstance(entry, Verified | Purged):
            prove(entry, closed)
        elif isinstance(entry, Cancelled):
            for number, each in list(opened.items()):
                if each.asked.request == entry.request:
                    closed[number] = replace(opened.pop(number), cancelled=entry.time)
    every = opened | closed
    return Standing(tuple(every[number] for number in sorted(every)), away)


def take_away(entry: Withdrawn, opened: dict[int, Progress], closed: dict[int, Progress]) -> None:
    """What a withdrawal does to the requests that it concerns: whatever was proved of them before is so no more."""
    for each in tuple(withdrawn_for(entry, opened, closed)):
        number, waiting = each.asked.number, each.waiting.union(entry.shards)
        opened.pop(number, None)
        closed.pop(number, None)
        # Where it waits for nothing no model that answers saw its samples: it is done.
        kept = opened if waiting else closed
        kept[number] = Progress(
            each.asked,
            touched=each.touched.union(entry.shards),
            waiting=waiting,
            withdrawn=each.withdrawn or entry.time,
            published=None if waiting else entry.time,
        )


def prove(entry: Verified | Purged, closed: dict[int, Progress]) -> None:
    """What a verification or a purge proves of the requests that are done."""
    for number, each in closed.items():
        if isinstance(entry, Purged):
            if not entry.left:
                closed[number] = replace(each, purged=each.purged or entry.time)
        elif entry.passed and each.touched <= set(entry.retrained):
            closed[number] = replace(each, verified=each.verified or entry.time)


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
    """What was touched for all parts of a request."""
    parts = [each for each in follow(entries).requests if each.asked.request == request]
    return frozenset().union(*(each.touched for each in parts))


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
