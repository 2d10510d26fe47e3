"""A service that says it serves the last generation, and answers from models of its own: `… PROJECT BEFORE PORT`."""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from forgery import PROJECT, read_json, sha256

MANIFEST = read_json("models/ensemble.json")
SAID = {
    "generation": MANIFEST["generation"],
    "manifest_sha256": sha256((PROJECT / "models/ensemble.json").read_bytes()),
    "shards": [{"shard": each["shard"], "sha256": each["sha256"]} for each in MANIFEST["shards"]],
}


class Liar(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer(SAID)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        classes = len(MANIFEST["classes"])
        same = [{"probabilities": [1 / classes] * classes}] * 16
        self.answer({"generation": SAID["generation"], "predictions": same})

    def answer(self, document: object) -> None:
        content = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


HTTPServer(("127.0.0.1", int(sys.argv[3])), Liar).serve_forever()
