"""The workspace's secret, ``.sisa/secret``: what is remembered of a sample is a digest under it.

A plain digest of an id like ``123`` is read back at once by trying them all; one under a secret is not. Whoever
has the secret can try: it is as private as the lists, and a lost one cannot be made again.
"""

from __future__ import annotations

import hmac
import secrets
import stat
from pathlib import Path

from training.errors import MemoryLostError
from training.files import write_atomic

BYTES = 32
DIGEST_BYTES = 16  # enough that no two samples ever meet, half of what a million of them would take otherwise


class Secret:
    """``name``: 16 hex digits that tell one secret from another and give nothing of it away."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.name = self.digest("secret", b"").hex()[:16]

    def digest(self, kind: str, content: bytes) -> bytes:
        """HMAC-SHA256, 16 bytes of it; equal contents of two kinds have nothing in common."""
        return hmac.digest(self._key, kind.encode() + b"\0" + content, "sha256")[:DIGEST_BYTES]

    def of_id(self, sample_id: str) -> bytes:
        """The digest of a sample's id."""
        return self.digest("id", sample_id.encode())

    def of_print(self, part: str, digest: bytes) -> bytes:
        """Of the SHA-256 of a picture's ``content`` or ``upright`` pixels."""
        return self.digest(part, digest)


def read_secret(path: Path) -> Secret | None:
    """The secret; None where there is none. Raises MemoryLostError when it is damaged or others may read it."""
    try:
        key, mode = path.read_bytes(), path.stat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MemoryLostError(f"{path} cannot be read ({error.strerror}); allow reading it") from error
    if len(key) != BYTES:
        raise MemoryLostError(f"{path} holds {len(key)} bytes, expected {BYTES}: {RESTORE}")
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise MemoryLostError(f"{path} can be read by others (mode {mode & 0o777:o}): `chmod 600 {path}`")
    return Secret(key)


def make_secret(path: Path) -> Secret:
    """A new secret, on the disk when this returns, for its owner's eyes alone."""
    key = secrets.token_bytes(BYTES)
    write_atomic(path, key, mode=0o600)
    return Secret(key)


RESTORE = (
    "restore .sisa/ from its backup, or by `sisa forget import FILE` from what `sisa forget export FILE` wrote on "
    'another machine (docs/forgetting.md, "A lost memory")'
)
