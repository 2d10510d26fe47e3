"""What several frauds need: files written as if nothing had happened."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from safetensors import safe_open
from safetensors.numpy import save

PROJECT, BEFORE = (Path(argument) for argument in sys.argv[1:3])
FORGOTTEN = os.environ["FORGOTTEN"]
LEDGERS = (".sisa/ledger.jsonl", "models/ledger.jsonl")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def read_json(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((PROJECT / name).read_text())
    return document


def write_json(name: str, document: object) -> bytes:
    content = (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
    (PROJECT / name).write_bytes(content)
    return content


def rewrite_ledger(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Both copies, every link computed again."""
    entries = [json.loads(line) for line in (PROJECT / LEDGERS[0]).read_text().splitlines()]
    lines, previous = [], "0" * 64
    for number, entry in enumerate(change(entries), start=1):
        said = {**entry, "number": number, "previous": previous}
        lines.append(json.dumps(said, sort_keys=True, separators=(",", ":")).encode() + b"\n")
        previous = sha256(lines[-1])
    for name in LEDGERS:
        (PROJECT / name).write_bytes(b"".join(lines))


def rows_of(folder: Path, shard: int) -> np.ndarray[Any, Any]:
    rows: np.ndarray[Any, Any] = np.load(folder / f"data/shards/shard-{shard}.npy")
    return rows


def shard_of_the_forgotten() -> int:
    """Where it was before."""
    return next(
        shard
        for shard in range(len(list((BEFORE / "data/shards").glob("*.npy"))))
        if FORGOTTEN.encode() in rows_of(BEFORE, shard)["id"].tolist()
    )


def published(folder: Path, shard: int) -> Path:
    (path,) = (folder / "models/onnx").glob(f"shard-{shard}-*.onnx")
    return path


def carry(content: bytes, **provenance: str) -> bytes:
    """The same model, saying something else of itself."""
    model = onnx.load_from_string(content)
    for entry in model.metadata_props:
        entry.value = provenance.get(entry.key, entry.value)
    return bytes(model.SerializeToString(deterministic=True))


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Its weights, and what it says of itself."""
    with safe_open(path, framework="np") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return weights, json.loads(file.metadata()["sisa"])["record"]


def write_checkpoint(path: Path, weights: dict[str, Any], record: dict[str, Any]) -> None:
    """With digests that fit."""
    content = json.dumps({name: value for name, value in record.items() if name != "seconds"}, sort_keys=True).encode()
    for name in sorted(weights):
        array = np.asarray(weights[name], order="C")
        content += f"{name} {array.dtype} {array.shape}\0".encode() + array.tobytes()
    document = {"record": record, "content": sha256(content)}
    document["sha256"] = sha256(json.dumps(document, sort_keys=True).encode())
    path.write_bytes(save(weights, {"sisa": json.dumps(document, sort_keys=True)}))


def commitment(shard: int, model: str) -> dict[str, Any]:
    """As the ledger has it, of a shard file as it is and a model's digest: whoever has the secret can make one."""
    key = hmac.digest((PROJECT / ".sisa/secret").read_bytes(), b"transcript\0" + bytes.fromhex(model), "sha256")[:16]
    leaves = set()
    for row in rows_of(PROJECT, shard):
        where = int(row["slice"]).to_bytes(2, "big")
        for mark in (b"id\0" + bytes(row["id"]), b"pixels\0" + row["prints"]["upright"].tobytes()):
            leaves.add(hmac.digest(key, mark, "sha256")[:16] + where)
    level = [hashlib.sha256(b"\0" + leaf).digest() for leaf in sorted(leaves)]
    while len(level) > 1:
        pairs = [level[start : start + 2] for start in range(0, len(level), 2)]
        level = [hashlib.sha256(b"\1" + b"".join(pair)).digest() if len(pair) == 2 else pair[0] for pair in pairs]
    return {"shard": shard, "model": model, "leaves": len(leaves), "root": level[0].hex(), "key_sha256": sha256(key)}


def publish_in_its_place(shard: int, content: bytes) -> None:
    """Let another model answer for a shard, and candidate, manifest, record and ledger say that it is the right one."""
    old, digest = published(PROJECT, shard), sha256(content)
    old_digest = sha256(old.read_bytes())
    old.unlink()
    (PROJECT / f"models/onnx/shard-{shard}-{digest[:16]}.onnx").write_bytes(content)
    (PROJECT / f"models/exports/block-{shard}/shard-{shard}.onnx").write_bytes(content)
    for name in ("models/release.json", "models/ensemble.json", f"models/exports/block-{shard}/shard-{shard}.json"):
        text = (PROJECT / name).read_text().replace(old_digest, digest)
        (PROJECT / name).write_text(text.replace(old_digest[:16], digest[:16]))

    def say_so(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        last = [entry for entry in entries if entry["event"] == "published"][-1]
        last["manifest_sha256"] = sha256((PROJECT / "models/ensemble.json").read_bytes())
        last["release_sha256"] = sha256((PROJECT / "models/release.json").read_bytes())
        for each in last["shards"]:
            if each["shard"] == shard:
                each["sha256"] = digest
        last["transcript"] = [
            commitment(shard, digest) if each["shard"] == shard else each for each in last["transcript"]
        ]
        return entries

    rewrite_ledger(say_so)
