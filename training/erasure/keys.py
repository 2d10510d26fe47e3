"""The key that certificates are signed with, Ed25519: kept outside the repository, its public half in ``models/keys``.

Public keys of earlier ones stay there, so that what they signed can be checked for ever.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.signer import CryptoSigner, SSlibKey

from training.errors import KeysError
from training.files import write_atomic
from training.workspace import Workspace

FILE, PASSPHRASE = "SISA_SIGNING_KEY", "SISA_SIGNING_PASSPHRASE"
HOME = Path("~/.config/sisa/signing-key.pem")


def key_file(workspace: Workspace) -> Path:
    """Where the private key is, or is to be: SISA_SIGNING_KEY, or ~/.config/sisa/signing-key.pem.

    Raises KeysError when that is in the workspace, from where it would get into git, bentos and images.
    """
    path = Path(os.environ.get(FILE) or HOME).expanduser().absolute()
    if path.resolve().is_relative_to(workspace.root):
        raise KeysError(f"{FILE} is {path}, which is in the workspace; keep the key outside of it")
    return path


def make_key(workspace: Workspace) -> SSlibKey:
    """A new key pair. Raises KeysError when there is a key already."""
    path = key_file(workspace)
    if path.exists():
        raise KeysError(f"{path} is there already; `sisa keys rotate` makes another one, and keeps the public half")
    return _write(workspace, path)


def rotate_key(workspace: Workspace) -> SSlibKey:
    """Another key pair; the old private key is put aside. Raises KeysError when there is none."""
    path = key_file(workspace)
    old = open_signer(workspace).public_key
    _publish(workspace, old)  # also where somebody removed it
    path.replace(path.with_name(f"{path.stem}-{old.keyid[:16]}-until-{datetime.now(UTC):%Y-%m-%d}.pem"))
    return _write(workspace, path)


def open_signer(workspace: Workspace) -> CryptoSigner:
    """Raises KeysError when the private key is missing, readable by others, damaged, or locked by a passphrase that
    is not in the environment."""
    path = key_file(workspace)
    try:
        content, mode = path.read_bytes(), path.stat().st_mode
    except FileNotFoundError:
        raise KeysError(f"there is no signing key at {path}; `sisa keys new` makes one") from None
    except OSError as error:
        raise KeysError(f"{path} cannot be read ({error.strerror})") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeysError(f"{path} can be read by others (mode {mode & 0o777:o}): `chmod 600 {path}`")
    try:
        key = load_pem_private_key(content, _passphrase())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeysError(f"{path} cannot be opened ({error}); {PASSPHRASE} must be what it was made with") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeysError(f"{path} is a {type(key).__name__}, expected an Ed25519 private key")
    return CryptoSigner(key)


def trusted_keys(workspace: Workspace) -> Mapping[str, SSlibKey]:
    """By id every public key in ``models/keys``. Raises KeysError when one is damaged."""
    return {key.keyid: key for key in map(read_public, sorted(workspace.erasure.keys.glob("*.pem")))}


def read_public(path: Path) -> SSlibKey:
    """Raises KeysError when it is not an Ed25519 public key."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise KeysError(f"{path} is not a public key ({error})") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeysError(f"{path} is a {type(key).__name__}, expected an Ed25519 public key")
    return SSlibKey.from_crypto(key)


def public_pem(key: SSlibKey) -> str:
    """As other programs take it."""
    raw = bytes.fromhex(key.keyval["public"])
    content = Ed25519PublicKey.from_public_bytes(raw).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return content.decode()


def _write(workspace: Workspace, path: Path) -> SSlibKey:
    key, phrase = Ed25519PrivateKey.generate(), _passphrase()
    locked = NoEncryption() if phrase is None else BestAvailableEncryption(phrase)
    write_atomic(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked), mode=0o600)
    public = SSlibKey.from_crypto(key.public_key())
    _publish(workspace, public)
    return public


def _publish(workspace: Workspace, key: SSlibKey) -> None:
    write_atomic(workspace.erasure.keys / f"{key.keyid}.pem", public_pem(key).encode())


def _passphrase() -> bytes | None:
    return os.environ.get(PASSPHRASE, "").encode() or None
