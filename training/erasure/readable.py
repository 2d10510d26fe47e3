"""The certificate for people: the same statement as a page and as Markdown."""

from __future__ import annotations

from pathlib import Path

from training.erasure.predicate import Statement
from training.report.page import environment as templates

TEMPLATES = Path(__file__).parent


def render(statement: Statement, key_id: str) -> tuple[str, str]:
    """HTML and Markdown; ``key_id``: of the key that signed it."""
    said = statement.predicate
    page = {"said": said, "subjects": statement.subject, "key_id": key_id}
    made = templates(TEMPLATES)
    html, markdown = (made.get_template(name).render(page) for name in ("certificate.html.j2", "certificate.md.j2"))
    return html, markdown
