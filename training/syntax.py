"""What Python code does, as a digest: comments, docstrings, formatting and quotes change nothing.

The digest is taken over the syntax tree and is the same under every supported Python, which neither
``ast.unparse`` (other quotes in 3.11 and 3.12) nor ``ast.dump`` (other fields in each version) would
be. ``tests/syntax`` holds sources and their digests; the digests never change, since keys hang on them.

Only the standard library is imported, so that a bare interpreter can check it.
"""

from __future__ import annotations

import ast
import hashlib
import tokenize
from pathlib import Path
from types import EllipsisType


def code_digest(source: str, filename: str = "<string>") -> str:
    """Hex SHA-256 of what ``source``, a whole module, does.

    Two sources have one digest where they differ in comments, docstrings and other strings that are
    statements, ``pass``, blank lines, indentation, parentheses without effect, the spelling of a
    literal (quotes, escapes, implicit concatenation, hexadecimal) and nothing else.

    Where Python itself changed what a source does (3.12 reads a backslash in the format of a raw f-string
    as an escape), the digest changes with it.

    Raises SyntaxError, naming ``filename``, where this Python cannot parse it.
    """
    digest = hashlib.sha256()
    pending: list[object] = [ast.parse(source, filename)]
    while pending:  # a walk in order of the source; not recursive, since a long sum is a deep tree
        head, children = _encode(pending.pop())
        digest.update(head)
        pending.extend(reversed(children))
    return digest.hexdigest()


def folder_digest(folder: Path) -> str:
    """Hex SHA-256 of what all Python files below ``folder`` do, and of their names.

    Names are paths relative to ``folder``: moving the folder as a whole changes nothing, renaming,
    adding or removing a file does, an empty ``__init__.py`` as well. ``__pycache__`` does not count.

    Raises FileNotFoundError where there is no Python file, SyntaxError where one cannot be parsed.
    """
    paths = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*.py")
        if "__pycache__" not in path.relative_to(folder).parts and path.is_file()
    }
    if not paths:
        raise FileNotFoundError(f"{folder} holds no Python file; expected a folder with code")
    digest = hashlib.sha256()
    for name, path in sorted(paths.items()):
        with tokenize.open(path) as file:  # decodes as Python does
            source = file.read()
        digest.update(_token("file", name.encode("utf-8", "surrogateescape")))
        digest.update(_token("code", code_digest(source, str(path)).encode()))
    return digest.hexdigest()


def _token(kind: str, payload: bytes) -> bytes:
    """Bytes of which no others are a prefix, so that a sequence of tokens can be read in one way only."""
    return b"%s %d:%s\n" % (kind.encode(), len(payload), payload)


def _encode(item: object) -> tuple[bytes, list[object]]:
    """A node of the tree, a list or a value: its own token, and what follows it."""
    match item:
        case ast.JoinedStr():
            parts = _texts_joined(item.values)
            return _token("f-string", b"%d" % len(parts)), list(parts)
        case ast.FormattedValue():
            spec = _format_spec(item.format_spec)
            return _token("f-string field", b"%d %d" % (item.conversion, len(spec))), [item.value, *spec]
        case ast.Constant():  # its kind says only whether it was written u"..."
            return _token("constant", b""), [item.value]
        case ast.AST():
            # Positions are not fields. A field that only some versions know is empty where code does
            # not use it; what is empty is left out in every version, and the rest is named.
            fields = {name: _effective(value) for name, value in ast.iter_fields(item)}
            fields = {name: value for name, value in fields.items() if value is not None and value != []}
            return _token(type(item).__name__, " ".join(fields).encode()), list(fields.values())
        case list():
            return _token("list", b"%d" % len(item)), item
        case _:
            return _literal(item), []


def _literal(value: object) -> bytes:
    """The token of a value with its type: True is not 1, 1 is not 1.0, 0.0 is not -0.0."""
    match value:
        case bool() | EllipsisType() | None:
            payload = repr(value).encode()
        case str():
            payload = value.encode("utf-8", "surrogatepass")
        case bytes():
            payload = value
        case int():
            payload = hex(value).encode()  # decimal has a limit of 4,300 digits
        case float():
            payload = value.hex().encode()
        case complex():
            payload = f"{value.real.hex()} {value.imag.hex()}".encode()
        case _:
            raise TypeError(f"a syntax tree holds {value!r}; expected a node, a list or a literal's value")
    return _token(type(value).__name__, payload)


def _effective(field: object) -> object:
    """A field of a node; where it is a list, without the statements that do nothing: docstrings and ``pass``.

    A body of nothing but a docstring becomes empty, as one of ``pass`` does.
    """
    if not isinstance(field, list):
        return field
    return [child for child in field if not _does_nothing(child)]


def _does_nothing(node: object) -> bool:
    match node:
        case ast.Pass() | ast.Expr(value=ast.Constant(value=str())):
            return True
    return False


def _format_spec(spec: ast.expr | None) -> list[ast.expr]:
    """What follows the colon of an f-string's field, in parts; {x:} is {x}."""
    match spec:
        case None:
            return []
        case ast.JoinedStr():
            return _texts_joined(spec.values)
    return [spec]  # 3.13 has a bare text here where it joined two


def _texts_joined(parts: list[ast.expr]) -> list[ast.expr]:
    """An f-string's parts with neighbouring texts joined; where a text is cut differs between versions."""
    joined: list[ast.expr] = []
    for part in parts:
        match part, joined[-1:]:
            case ast.Constant(value=""), _:
                pass
            case ast.Constant(value=str(text)), [ast.Constant(value=str(before))]:
                joined[-1] = ast.Constant(before + text)
            case _:
                joined.append(part)
    return joined
