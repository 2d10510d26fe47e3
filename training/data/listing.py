"""What lies below the source, by name alone: which files are pictures, what is left out, what must not be there.

No picture is read here, and nothing slow is imported: `sisa check` asks as well.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
SPLITS = ("train", "test")
# Systems and tools put these beside pictures, some of them full of thumbnails. What is hidden counts as well.
LEFT_BEHIND = ("@eadir", "__macosx", "thumbs.db", "desktop.ini")
# What DVC stumbles over, or stops at, in the folders that it compares.
UNWANTED = {
    ".dvcignore": "DVC allows no such file in what it compares; move its lines to the project's .dvcignore",
    ".dvc": "a DVC project of its own, which DVC does not look into; move its pictures out, or remove this folder",
}


@dataclass(frozen=True)
class Survey:
    """All that lies below a folder, hidden or not, as DVC walks it: no link to a folder is followed.

    ``files`` (regular ones, or links to one), ``folders`` and ``links`` to folders: names below the folder
    with ``/`` between the parts, sorted part by part. ``problems``: what DVC or a stage would fail on or
    wait for, a sentence each.
    """

    files: list[str]
    folders: list[str]
    links: list[str]
    problems: list[str]


@dataclass(frozen=True)
class Listing:
    """The source as a folder of pictures. ``pictures``: by split, names below it, CLASS/NAME.

    ``classes``: the folders of a split, also empty ones: forgetting the last picture of a class must not
    renumber the others. ``skipped``: what is not a sample, a sentence for each split. ``problems``: why the
    source cannot be used, a sentence each; the rest may be incomplete then.
    """

    classes: tuple[str, ...]
    pictures: dict[str, list[str]]
    skipped: tuple[str, ...]
    problems: tuple[str, ...]


def list_pictures(root: Path) -> Listing:
    """What ``root`` holds as ``train/CLASS/*`` and ``test/CLASS/*``; folders in a class are part of it."""
    shape = f"expected {root}/train/CLASS/* and {root}/test/CLASS/*"
    problems = [
        f"data.source is imagefolder, but {root / split} is not a folder; {shape}"
        for split in SPLITS
        if not is_folder(root / split)
    ]
    complete, found = not problems, survey(root)
    problems += found.problems
    problems += [
        f"{shown(root / name)}: a link to a folder: DVC does not look behind it, so a deletion there would go "
        "unnoticed; move the folder itself to this place"
        for name in found.links
    ]
    folders = [name.split("/") for name in found.folders]
    classes = tuple(sorted({parts[1] for parts in folders if len(parts) == 2 and is_sample(parts)}))
    for parts in folders:
        if is_sample(parts) and parts[-1].lower().endswith(SUFFIXES):
            problems.append(f"{shown(root.joinpath(*parts))}: a folder that is named as a picture; rename or remove it")
    if complete and len(classes) < 2:
        problems.append(f"{root} holds {len(classes)} class folder(s); a classifier needs at least 2")
    pictures, skipped = {}, []
    for split in SPLITS:
        taken: list[str] = []
        rest: list[list[str]] = []
        for name in found.files:
            if name.startswith(f"{split}/"):
                parts = name.split("/")
                if len(parts) > 2 and is_picture(name) and is_sample(parts):
                    taken.append(name.removeprefix(f"{split}/"))
                else:
                    rest.append(parts)
        pictures[split] = taken
        problems += [f"{root / split}: {reason}" for reason in unlistable(taken)]
        folders_of_split = [parts for parts in folders if parts[0] == split and len(parts) > 1]
        skipped += [f"{root / split}: {sentence}" for sentence in left_out(rest, folders_of_split)]
    return Listing(classes, pictures, tuple(skipped), tuple(problems))


def survey(root: Path) -> Survey:
    """Walk ``root``; nothing is found where it is not a folder."""
    found = Survey([], [], [], [])
    waiting = [""] if is_folder(root) else []
    while waiting:
        base = waiting.pop()
        try:
            with os.scandir(root / base) as entries:
                listed = list(entries)
        except OSError as error:
            reason = f"a folder that cannot be read ({error.strerror}); allow reading it"
            found.problems.append(f"{shown(root / base)}: {reason}")
            continue
        for entry in listed:
            name = f"{base}/{entry.name}" if base else entry.name
            problem = trouble(entry)
            if problem is not None:
                found.problems.append(f"{shown(root / name)}: {problem}")
            elif entry.is_file():
                found.files.append(name)
            elif entry.is_symlink():
                found.links.append(name)
            else:
                found.folders.append(name)
                waiting.append(name)
    for names in (found.files, found.folders, found.links):
        names.sort(key=lambda name: name.split("/"))
    found.problems.sort()
    return found


def trouble(entry: os.DirEntry[str]) -> str | None:
    """Why an entry of a folder cannot stay as it is, in whatever folder that DVC compares; None when it can."""
    if entry.name in UNWANTED:
        return UNWANTED[entry.name]
    try:  # what the folder itself knows of a file saves asking for each of a great many
        kind = stat.S_IFREG if entry.is_file(follow_symlinks=False) else stat.S_IFMT(entry.stat().st_mode)
    except OSError as error:
        what = "a link to nowhere" if entry.is_symlink() else "it cannot be looked at"
        return f"{what} ({error.strerror}); repair or remove it"
    if kind == stat.S_IFDIR:
        return None
    if kind != stat.S_IFREG:
        return "not a file, but a device, a FIFO or a socket; remove it"
    return None if os.access(entry.path, os.R_OK) else "a file that cannot be read; allow reading it, or remove it"


def is_folder(path: Path) -> bool:
    """Whether there is a folder, or a link to one; False also where nobody may look, or the name is too long."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_picture(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def is_sample(parts: Sequence[str]) -> bool:
    """Whether a path below the source is a split's, and nothing in it is hidden or left behind by a tool."""
    return parts[0] in SPLITS and not any(is_left_behind(part) for part in parts)


def is_left_behind(name: str) -> bool:
    return name.startswith(".") or name.lower() in LEFT_BEHIND


def left_out(files: Iterable[Sequence[str]], folders: Iterable[Sequence[str]]) -> list[str]:
    """The files of a split that are not samples, and its folders, in sentences; a path is given as its parts."""
    places: Counter[str] = Counter()  # how often a folder of the name is left out
    inside: Counter[str] = Counter()  # pictures in them
    hidden: Counter[str] = Counter()
    strangers = beside = 0
    for parts in folders:
        if is_left_behind(parts[-1]) and not any(map(is_left_behind, parts[:-1])):
            places[parts[-1]] += 1
    for parts in files:
        folder = next((part for part in parts[:-1] if is_left_behind(part)), None)
        if folder is not None:
            inside[folder] += is_picture(parts[-1])
        elif is_left_behind(parts[-1]):
            hidden["hidden files" if parts[-1].startswith(".") else parts[-1]] += 1
        elif not is_picture(parts[-1]):
            strangers += 1
        elif len(parts) == 2:
            beside += 1
    sentences = []
    if places or hidden:
        named = [f"{shown(name)} (folders: {places[name]}, pictures in them: {inside[name]})" for name in places]
        counted = [f"{name} ({count})" for name, count in hidden.items()]
        sentences.append(f"not samples, skipped as hidden or left behind by tools: {', '.join(named + counted)}")
    if strangers:
        sentences.append(f"files skipped, not named as pictures ({', '.join(SUFFIXES)}): {strangers}")
    if beside:
        sentences.append(f"pictures skipped, in no class folder: {beside}")
    return sentences


def unlistable(names: Iterable[str]) -> list[str]:
    """Names that could not be written in a forget list, each in a sentence."""
    return [
        f"the name {name!r} could not be written in a forget list (it starts with '#' or 'subject:', or holds "
        "' #', a leading or trailing space, or an unprintable character); rename the file"
        for name in names
        if name.startswith(("#", "subject:")) or " #" in name or name != name.strip() or not name.isprintable()
    ]


def shown(path: Path | str) -> str:
    """A path that can be printed, also where its bytes are not UTF-8."""
    return str(path).encode("utf-8", "backslashreplace").decode()
