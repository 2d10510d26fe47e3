"""The README's clients, each run as it is written there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from server import RED, REPOSITORY, Server, encoded, npy, picture

SERVE = (REPOSITORY / "README.md").read_text().partition("\n## Serve\n")[2].partition("\n## ")[0]
SNIPPETS = [
    (language, code)
    for language, code in re.findall(r"```(\w+)\n(.*?)```", SERVE, re.DOTALL)
    if "localhost:3000/v1" in code or "SyncHTTPClient" in code
]


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
    # The picture is red. To zeros three shards say nothing much, and one says green.
    expected = "green" if "np.zeros" in code else "red"
    assert re.search(rf'"class":"{expected}"|^{expected}$', done.stdout, re.MULTILINE)


def test_bentomls_client_sends_arrays_and_a_mode(server: Server) -> None:
    """It reads from the service what a body holds."""
    program = (
        "import bentoml, numpy as np\n"
        f"with bentoml.SyncHTTPClient({server.url!r}) as client:\n"
        "    answer = client.predict(images=np.full((2, 4, 4, 3), (255, 0, 0), np.uint8), mode='vote')\n"
        "print(answer['mode'], [row['class'] for row in answer['predictions']])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "vote ['red', 'red']\n", done.stderr


JAVA = """
import java.net.URI;
import java.net.http.*;
import java.nio.file.*;

class Client {
    public static void main(String[] arguments) throws Exception {
        var client = HttpClient.newHttpClient(); // with its defaults: it asks for HTTP/2 by an Upgrade
        for (int turn = 0; turn < 3; turn++) {
            var request = HttpRequest.newBuilder(URI.create(arguments[0] + "/v1/predict/npy"))
                .header("Content-Type", "application/x-npy")
                .POST(HttpRequest.BodyPublishers.ofFile(Path.of("images.npy")))
                .build();
            var answer = client.send(request, HttpResponse.BodyHandlers.ofString());
            System.out.println(answer.statusCode() + " " + answer.version() + " " + answer.body());
        }
    }
}
"""


@pytest.mark.heavy
def test_javas_own_client_gets_answers_with_its_defaults(server: Server, tmp_path: Path) -> None:
    if shutil.which("javac") is None:
        pytest.skip("no javac on the PATH")
    (tmp_path / "images.npy").write_bytes(npy(picture(RED)[None]))
    (tmp_path / "Client.java").write_text(JAVA)
    command = ["java", "Client.java", server.url]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (
        re.findall(r"^(\d+) (\w+) .*\"class\":\"(\w+)\"", done.stdout, re.MULTILINE) == [("200", "HTTP_1_1", "red")] * 3
    )
