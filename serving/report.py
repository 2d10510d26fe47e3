"""The report of the models that are served, and of no others: `reports/report.html`, made by `dvc repro`.

It names the models that it describes. While some of these are withdrawn, it is shown below a banner that says so.
"""

from __future__ import annotations

import re
from pathlib import Path

from serving.ensemble.manifest import Release
from serving.refusal import Refusal

MODELS = re.compile(rb'<meta name="sisa-models" content="([0-9a-f ]*)">')
BODY = b"<body>"
BANNER = (
    '<p role="alert" style="margin: 0 0 1rem; padding: 0.75rem 1rem; border: 2px solid currentColor">'
    "Models of shards {shards} are withdrawn and do not answer until they are trained again. "
    "What follows describes the ensemble as it was before.</p>"
)


def read_report(path: Path, release: Release) -> bytes:
    """The page. Raises Refusal, 404, where there is none, or it describes other models than those of ``release``."""
    try:
        content = path.read_bytes()
    except OSError:
        raise missing("none") from None
    found = MODELS.search(content)
    described = set(found[1].decode().split()) if found else set()
    if described == {shard.sha256 for shard in release.voters}:
        return content
    withdrawn = [str(shard.shard) for shard in release.shards if shard.pending or shard.earlier_slice is not None]
    left = {shard.sha256 for shard in release.voters if shard.earlier_slice is None}
    if described and withdrawn and (described & left or not left):
        return content.replace(BODY, BODY + BANNER.format(shards=", ".join(withdrawn)).encode(), 1)
    raise missing("one that describes other models")


def missing(found: str) -> Refusal:
    return Refusal(404, "there is no report here", None, "reports/report.html of the models that answer", found)
