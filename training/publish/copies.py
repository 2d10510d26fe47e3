"""What is forgotten stays forgotten, whatever it is called: partition's drafts are compared with the memory.

A sample that has the file or the pixels of a forgotten one, or looks like it, is a copy. ``data.duplicates: forget``
leaves every copy out of training and of the test split. With ``report`` copies that were there when the sample was
asked for are named and stay in training; one that came later is a way back, and stops the run. Exact copies leave the
test split in either case.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from training.data.deal import Partition, without
from training.data.duplicates import How, Match, join, match_files, match_pictures, match_subjects
from training.data.prints import Prints
from training.data.shard_files import ShardFiles, draft_files, held_prints
from training.errors import ForgetListError, ReturnedError
from training.files import csv_bytes, write_if_changed
from training.memory.members import Members, read_all
from training.memory.suppressed import Memory, Suppressed
from training.params import Params
from training.publish.history import last_generation, read_history
from training.publish.suppress import describe
from training.workspace import Workspace

Split = Literal["train", "test"]
Outcome = Literal["kept", "left out", "refused"]
NAMED = 20  # in an error; more are counted
SAME = {
    How.FILE: "the same file as",
    How.PIXELS: "the same pixels as",
    How.LOOK: "looks like",
}


@dataclass(frozen=True)
class Copy:
    """``of``: the forgotten sample, by its id where a list names it, or what asked for it."""

    split: Split
    sample_id: str
    how: How
    of: str
    outcome: Outcome

    def __str__(self) -> str:
        if self.how is How.ID:
            return f"{self.split}/{self.sample_id}: {self.of}, under its own id"
        return f"{self.split}/{self.sample_id}: {SAME[self.how]} {self.of}"


@dataclass(frozen=True)
class Drafts:
    """A partition that is written but not in its place. ``copies``: all that were found.

    ``remember``: by request, those left out of training that the memory does not have yet.
    """

    dealt: Partition
    files: ShardFiles
    copies: tuple[Copy, ...]
    remember: dict[str, list[Suppressed]]


def draft(workspace: Workspace, params: Params, dealt: Partition, memory: Memory) -> Drafts:
    """Write the shard files beside the old ones, without what must not be in them.

    Raises ReturnedError when something forgotten is back, and what decoding raises; no draft is left then.
    """
    sieve = Sieve(workspace, params, dealt, memory)
    train, test = dealt.source.train, dealt.source.test
    secret, records = memory.secret, sieve.records
    by_file = join(
        match_files(secret, records, train.ids, train.contents), match_subjects(secret, records, train.subjects)
    )
    by_file = sieve.returned(by_file)
    out = sieve.left_out(by_file)
    untested = join(
        match_files(secret, records, test.ids, test.contents, by_id=False),
        match_subjects(secret, records, test.subjects),
    )
    dealt = without(dealt, out) if out else dealt
    files = draft_files(workspace, params, dealt, sieve.erased(untested))
    try:
        members = [index for shard in dealt.members for index in shard]
        prints = np.concatenate([written.prints for written in files.shards])
        by_picture = sieve.returned(match_pictures(memory.secret, sieve.records, members, prints))
        kept = [index for index in range(len(test.ids)) if index not in sieve.erased(untested)]
        found = join(by_file, by_picture)
        untested = join(untested, match_pictures(memory.secret, sieve.records, kept, files.test.prints))
        out = sieve.left_out(found)
        if not out.isdisjoint(members) or not sieve.erased(untested).isdisjoint(kept):
            dealt = without(dealt, out)
            files = draft_files(workspace, params, dealt, sieve.erased(untested), also=files)
        if not len(files.test.prints):
            raise ForgetListError("nothing is left to test on: every test picture is a copy of what is forgotten")
    except BaseException:
        files.discard()
        raise
    copies = [
        *(sieve.copy("train", train.ids, match, "left out" if match.index in out else "kept") for match in found),
        *(
            sieve.copy("test", test.ids, match, "left out" if match.index in sieve.erased(untested) else "kept")
            for match in untested
        ),
    ]
    write_copies(workspace, copies)
    return Drafts(dealt, files, tuple(copies), sieve.to_remember(found, out))


@dataclass(frozen=True)
class Sieve:
    """The rules of this module, for one partition."""

    workspace: Workspace
    params: Params
    dealt: Partition
    memory: Memory

    @cached_property
    def records(self) -> dict[bytes, Suppressed]:
        """By the digests of their ids: all that is forgotten, and what lists name where they are only monitored."""
        train, secret = self.dealt.source.train, self.memory.secret
        monitored = self.dealt.listed - self.dealt.forgotten
        described = (describe(secret, train, train.ids[index], {train.ids[index]: index}, {}) for index in monitored)
        return {**{bytes.fromhex(sample.id): sample for sample in described}, **self.memory.samples}

    @cached_property
    def names(self) -> dict[bytes, str]:
        ids = self.dealt.source.train.ids
        return {self.memory.secret.of_id(ids[index]): ids[index] for index in self.dealt.listed}

    @cached_property
    def requests(self) -> dict[bytes, str]:
        return self.memory.requests()

    def returned(self, matches: Iterable[Match]) -> list[Match]:
        """Copies in training, but for what is listed or was reinstated. Raises ReturnedError as ``draft`` does."""
        ids, of_id = self.dealt.source.train.ids, self.memory.secret.of_id
        found = [
            match
            for match in matches
            if match.index not in self.dealt.forgotten
            and not (match.index in self.dealt.listed and match.of not in self.memory.samples)
            and not self.memory.allows(of_id(ids[match.index]), match.of)
        ]
        if self.params.data.duplicates == "report":
            back = [match for match in found if match.of in self.memory.samples and not self.was_there(match)]
            if back:
                copies = [self.copy("train", ids, match, "refused") for match in back]
                write_copies(self.workspace, copies)
                raise ReturnedError(complaint(copies))
        return found

    def left_out(self, matches: Iterable[Match]) -> frozenset[int]:
        """Positions in training; what is only monitored leaves nothing out."""
        if self.params.data.duplicates == "report":
            return frozenset()
        return frozenset(match.index for match in matches if match.of in self.memory.samples)

    def erased(self, matches: Iterable[Match]) -> frozenset[int]:
        """Positions in the test split."""
        near = self.params.data.duplicates == "forget"
        return frozenset(match.index for match in matches if (near or match.exact) and match.of in self.memory.samples)

    def was_there(self, match: Match) -> bool:
        """Whether a copy was trained on before, under its id and with its file; a forgotten sample itself never was."""
        if match.how is How.ID:
            return False
        train = self.dealt.source.train
        return self.knows(train.ids[match.index], train.contents[match.index])

    def knows(self, sample_id: str, content: bytes) -> bool:
        held, tables = self.before
        if not held and not tables and last_generation(read_history(self.workspace)) is None:
            return True  # nothing was ever trained: all that is there was there when it was asked
        if sample_id in held and held[sample_id].content == content:
            return True
        digest, wanted = self.memory.secret.of_id(sample_id), self.memory.secret.of_print("content", content).hex()
        return any(table.suppressed(digest).content in (wanted, None) for table in tables if digest in table.positions)

    @cached_property
    def before(self) -> tuple[dict[str, Prints], list[Members]]:
        """What the shard files hold as they stand, and what each published model saw."""
        return held_prints(self.workspace), list(read_all(self.workspace.members_folder).values())

    def copy(self, split: Split, ids: Sequence[str], match: Match, outcome: Outcome) -> Copy:
        return Copy(split, ids[match.index], match.how, self.name_of(match), outcome)

    def name_of(self, match: Match) -> str:
        if match.of in self.names:
            return self.names[match.of]
        return f"a sample that {self.requests[match.of]} asked to forget"

    def to_remember(self, matches: Iterable[Match], out: frozenset[int]) -> dict[str, list[Suppressed]]:
        """Left-out copies by request: whatever becomes of the sample that they are copies of, they stay out."""
        train, secret, batches = self.dealt.source.train, self.memory.secret, dict[str, list[Suppressed]]()
        for match in matches:
            digest = secret.of_id(train.ids[match.index])
            if match.index in out and digest not in self.memory.samples:
                content = secret.of_print("content", train.contents[match.index])
                copy = Suppressed(id=digest.hex(), content=content.hex())
                batches.setdefault(self.requests[match.of], []).append(copy)
        return batches


def complaint(back: Sequence[Copy]) -> str:
    return "\n".join(
        [
            f"forgotten samples are back in the source, or copies of them: {len(back)}; nothing was changed",
            *(f"  {copy}" for copy in back[:NAMED]),
            *([f"  … and {len(back) - NAMED} more"] if len(back) > NAMED else []),
            "Keep them out with `sisa forget add ID`, or a line in a forget list. To train on one all the same, since "
            "it only looks alike, for example: `sisa forget reinstate ID --reason …`",
        ]
    )


def write_copies(workspace: Workspace, copies: Sequence[Copy]) -> None:
    rows = [(copy.split, copy.sample_id, copy.how, copy.of, copy.outcome) for copy in copies]
    write_if_changed(workspace.copies_file, csv_bytes(("split", "sample", "same", "as", "outcome"), rows))


def copies_with(workspace: Workspace, outcome: Outcome, *, exact: bool = False) -> frozenset[str]:
    """The ids of the training samples for which the last partition came to this; none where it found no copies.

    ``exact``: without those that only look alike.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(workspace.copies_file.read_text(encoding="utf-8"), newline="")))
    except FileNotFoundError:
        return frozenset()
    return frozenset(
        row["sample"]
        for row in rows
        if row["outcome"] == outcome and row["split"] == "train" and not (exact and row["same"] == How.LOOK)
    )
