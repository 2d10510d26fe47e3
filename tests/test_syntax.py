"""One digest for what code does, under every supported Python."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.syntax import code_digest, folder_digest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "tests/syntax").glob("*.py.txt"))
DIGESTS: dict[str, str] = json.loads((ROOT / "tests/syntax/digests.json").read_text(encoding="utf-8"))
OURS = sorted((ROOT / "training").rglob("*.py"))
CODE = {path.name: path.read_text(encoding="utf-8") for path in SOURCES}
VERSIONS = ("3.11", "3.12", "3.13")

# For an interpreter with nothing but its standard library: paths on its input, their digests on its output.
PROGRAM = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from training.syntax import code_digest
json.dump([code_digest(Path(name).read_text(encoding="utf-8"), name) for name in json.load(sys.stdin)], sys.stdout)
"""


def pythons() -> dict[str, str]:
    """Version to interpreter: this one, and every other supported one of pyenv or on the PATH."""
    found = {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for folder in [*sorted(map(str, pyenv.glob("versions/*/bin"))), *os.get_exec_path()]:
        for version in VERSIONS:
            candidate = shutil.which(f"python{version}", path=folder)
            if version not in found and candidate is not None:
                ask = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
                if subprocess.run(ask, capture_output=True, text=True, check=False).stdout.strip() == version:
                    found[version] = candidate  # what pyenv puts on the PATH need not answer
    return found


PYTHONS = pythons()


def digests(python: str, paths: list[Path]) -> list[str]:
    done = subprocess.run(
        [python, "-I", "-S", "-B", "-c", PROGRAM, str(ROOT)],
        input=json.dumps([str(path) for path in paths]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [str(digest) for digest in json.loads(done.stdout)]


@pytest.mark.parametrize("version", sorted(PYTHONS))
def test_the_committed_sources_have_the_committed_digests(version: str) -> None:
    found = dict(zip(CODE, digests(PYTHONS[version], SOURCES), strict=True))
    assert found == DIGESTS


@pytest.mark.parametrize("version", sorted(PYTHONS))
def test_our_own_code_has_the_same_digests_under_each_python(version: str) -> None:
    ours = [code_digest(path.read_text(encoding="utf-8")) for path in OURS]
    assert digests(PYTHONS[version], OURS) == ours


def test_the_encoding_is_that_of_a_hand() -> None:
    encoded = b"Module 4:body\nlist 1:1\nExpr 5:value\nconstant 0:\nint 4:0x2a\n"
    assert code_digest("42") == hashlib.sha256(encoded).hexdigest()


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ("x = 1", "x=1;"),
        ("x = 1", "# why\n\nx = (1)  # a comment"),
        ("x = 'a'", 'x = """a"""'),
        ("x = 'ab'", "x = 'a' \"b\""),
        ("x = 'ab'", "x = u'ab'"),
        ("x = 'é'", r"x = '\xe9'"),
        ("x = b'a'", r"x = b'\x61'"),
        ("x = 16", "x = 0x1_0"),
        ("x = 1.0", "x = 1e0"),
        ("f'a{x}b'", "f'a' '' f'{x}' f'' 'b'"),
        ("f'{x}'", "f'{x:}'"),
        ("def f(): pass", "def f():\n    '''What f does.'''"),
        ("def f(): return 1", "def f():\n    '''What f does.'''\n    return 1"),
        ("class A: pass", "class A:\n    'What A is.'\n    pass"),
        ("class A: x: int", "class A:\n    x: int\n    'What x is.'"),
        ("", "'''A module.'''"),
        ("if a:\n    b\nelse:\n    if c: d", "if a: b\nelif c: d"),
    ],
)
def test_how_code_is_written_does_not_matter(one: str, same: str) -> None:
    assert code_digest(one) == code_digest(same)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 2"),
        ("x = 1", "y = 1"),
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = True"),
        ("x = 1", "x = 1j"),
        ("x = 0.0", "x = -0.0"),
        ("x = None", "x = ..."),
        ("x = None", "x = 'None'"),
        ("x = 'a'", "x = b'a'"),
        ("x = ()", "x = []"),
        ("x = {}", "x = {None: None}"),
        ("x = 1e999", "x = -1e999"),
        ("f'{x}'", "f'{x!r}'"),
        ("f'{x}'", "f'{x:>1}'"),
        ("f'{x}y'", "f'y{x}'"),
        ("f'{x:a{y}}'", "f'{x:{y}a}'"),
        ("f'{x}{y}'", "f'{x:{y}}'"),
        ("f'{x}'", "x"),
        ("f(a, b)", "f((a, b))"),
        ("f(a, *b)", "f(*a, b)"),
        ("a - (b - c)", "a - b - c"),
        ("a[1:]", "a[:1]"),
        ("def f(a, /): pass", "def f(a): pass"),
        ("def f(a): pass", "def f(*, a): pass"),
        ("def f(a, b=1): pass", "def f(a=1, b=1): pass"),
        ("def f(*, a, b=1): pass", "def f(*, a=1, b): pass"),
        ("def f(): return 1", "async def f(): return 1"),
        ("def f(): f'not a docstring {x}'", "def f(): pass"),
        ("for x in y: a\nelse: b", "for x in y:\n    a\n    b"),
        ("try: a\nexcept E: b", "try: a\nexcept* E: b"),
        ("if a: b\nc", "if a:\n    b\n    c"),
        ("from a import b", "from .a import b"),
        ("import a as b", "import b as a"),
        ("global a, b", "global a\nglobal b"),
        ("a\nb", "b\na"),
    ],
)
def test_what_code_does_matters(one: str, other: str) -> None:
    assert code_digest(one) != code_digest(other)


@pytest.mark.parametrize("name", CODE)
def test_code_that_is_formatted_anew_keeps_its_digest(name: str) -> None:
    assert code_digest(ast.unparse(ast.parse(CODE[name]))) == code_digest(CODE[name])


@pytest.mark.parametrize("name", CODE)
def test_comments_after_every_statement_keep_the_digest(name: str) -> None:
    lines = CODE[name].splitlines()
    ends = {
        token.start[0]
        for token in tokenize.generate_tokens(io.StringIO(CODE[name]).readline)
        if token.type == tokenize.NEWLINE
    }
    commented = [f"{line}  # a remark" if number in ends else line for number, line in enumerate(lines, 1)]
    assert commented != lines
    assert code_digest("\n".join(commented)) == code_digest(CODE[name])


def changes(tree: ast.Module) -> Iterator[str]:
    """The code with one name or one constant changed, for each of them in turn."""
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings are among them
    for node in ast.walk(tree):
        for field, value in ast.iter_fields(node):
            changed: object
            match node, field, value:
                case (_, "kind", _) | (ast.alias(), _, "*"):
                    continue
                case (ast.Constant(), _, str()) if id(node) in texts:
                    continue
                case _, _, str():
                    changed = value + "_"
                case _, _, bytes():
                    changed = value + b"_"
                case ast.Constant(), _, bool() | None:
                    changed = 0
                case ast.Constant(), _, int() | float():
                    changed = 1 if value != 1 else 2
                case ast.Constant(), _, complex():
                    changed = 7j
                case _:
                    continue
            setattr(node, field, changed)
            yield ast.unparse(tree)
            setattr(node, field, value)


@pytest.mark.parametrize("name", CODE)
def test_another_name_or_constant_anywhere_is_another_digest(name: str) -> None:
    changed = [code_digest(code) for code in changes(ast.parse(CODE[name]))]
    assert len(changed) > 40
    assert code_digest(CODE[name]) not in changed


LITERALS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.complex_numbers(allow_nan=False, allow_infinity=False).filter(lambda number: number.real == 0),
    st.text(),
    st.binary(),
)


@given(LITERALS, LITERALS)
def test_two_literals_share_a_digest_only_when_they_are_the_same(one: object, other: object) -> None:
    same = code_digest(f"x = {one!r}") == code_digest(f"x = {other!r}")
    assert same == (repr(one) == repr(other))


@given(st.text(), st.text())
def test_escapes_and_implicit_concatenation_are_only_spelling(head: str, tail: str) -> None:
    escaped = "".join(f"\\U{ord(character):08x}" for character in tail)
    assert code_digest(f'x = {head!r} "{escaped}"') == code_digest(f"x = {head + tail!r}")


def test_a_sum_of_many_terms_is_not_too_deep() -> None:
    assert code_digest("x = " + " + ".join(["y"] * 900)) != code_digest("x = " + " + ".join(["y"] * 901))


def test_what_is_not_python_is_named() -> None:
    with pytest.raises(SyntaxError, match="invalid syntax") as error:
        code_digest("x = 1\ny = = 2\n", "recipe/loop.py")
    assert (error.value.filename, error.value.lineno) == ("recipe/loop.py", 2)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "recipe"
    (folder / "network").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "loop.py").write_text("rate = 1\n")
    (folder / "network/blocks.py").write_text("width = 2\n")
    return folder


def test_a_folder_keeps_its_digest_where_it_is_moved_and_commented(package: Path) -> None:
    before = folder_digest(package)
    moved = package.rename(package.parent / "elsewhere")
    (moved / "loop.py").write_text("# how fast\nrate = 1\n")
    (moved / "README.md").write_text("not Python")
    (moved / "__pycache__").mkdir()
    (moved / "__pycache__/old.py").write_text("rate = 3\n")
    assert folder_digest(moved) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "loop.py").write_text("rate = 2\n"),
        lambda folder: (folder / "network/blocks.py").write_text("width = 3\n"),
        lambda folder: (folder / "loop.py").rename(folder / "loops.py"),
        lambda folder: (folder / "loop.py").rename(folder / "network/loop.py"),
        lambda folder: (folder / "network/__init__.py").write_text(""),
        lambda folder: (folder / "__init__.py").unlink(),
        lambda folder: (
            (folder / "loop.py").write_text("width = 2\n") and (folder / "network/blocks.py").write_text("rate = 1\n")
        ),
    ],
    ids=["code", "code below", "another name", "another folder", "a file more", "a file less", "exchanged"],
)
def test_a_folder_has_another_digest_when_its_code_or_a_name_changes(
    package: Path, change: Callable[[Path], object]
) -> None:
    before = folder_digest(package)
    change(package)
    assert folder_digest(package) != before


def test_a_file_is_decoded_as_python_decodes_it(package: Path) -> None:
    (package / "loop.py").write_bytes("rate = 'é'\n".encode())
    before = folder_digest(package)
    (package / "loop.py").write_bytes("# coding: latin-1\r\nrate = 'é'\r\n".encode("latin-1"))
    assert folder_digest(package) == before


def test_a_folder_without_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no Python file; expected a folder with code"):
        folder_digest(tmp_path)
