"""The README's clients, each run as it is written there."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from server import FLAT, RED, REPOSITORY, Server, encoded, picture, publish

SERVE = (REPOSITORY / "README.md").read_text().partition("\n## Serve\n")[2].partition("\n## ")[0]
SNIPPETS = [
    (language, code)
    for language, code in re.findall(r"```(\w+)\n(.*?)```", SERVE, re.DOTALL)
    if "localhost:3000/v1" in code or "SyncHTTPClient" in code
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("clients")
    publish(folder / "models", 1, [FLAT, FLAT, FLAT])
    with Server(folder) as running:
        running.wait(lambda: running.status("/readyz") == 200)
        yield running


def test_the_readme_has_curl_two_python_clients_and_javascript() -> None:
    assert [language for language, _ in SNIPPETS] == ["sh", "python", "python", "js"]


@pytest.mark.parametrize(("language", "code"), SNIPPETS)
def test_a_client_of_the_readme_gets_an_answer(server: Server, tmp_path: Path, language: str, code: str) -> None:
    (tmp_path / "cat.png").write_bytes(encoded(picture(RED, 20)))
    code = code.replace("http://localhost:3000", server.url)
    match language:
        case "sh":
            command = ["sh", "-ec", code]
        case "python":
            command = [sys.executable, "-c", code]
        case _:
            if shutil.which("node") is None:
                pytest.skip("no node on the PATH")
            (tmp_path / "client.mjs").write_text(code)
            command = ["node", "client.mjs"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # The picture is red; the zeros of the .npy client are the first class, red, as well.
    assert re.search(r'"class":"red"|^red$', done.stdout, re.MULTILINE)
