"""Addresses of services that run elsewhere, as params.yaml and the command line give them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, HttpUrl, TypeAdapter, ValidationError

_URL = TypeAdapter(HttpUrl)


def service_url(text: object) -> str:
    """``text`` as it is written, without a slash at its end. Raises ValueError saying what is wrong with it.

    It may have a path, where a proxy keeps the service below one. It has no credentials: params.yaml and the ledger
    have it, and git has both.
    """
    expected = "expected the address of a service, as https://sisa.example.org"
    if not isinstance(text, str) or any(character.isspace() for character in text):
        raise ValueError(expected)
    try:
        url = _URL.validate_python(text)
    except ValidationError as error:
        raise ValueError(f"{expected} ({error.errors()[0]['msg']})") from None
    if url.username is not None or url.password is not None:
        raise ValueError("an address has no user and no password: SISA_ADMIN_TOKEN in the environment is what opens it")
    if url.query is not None or url.fragment is not None:
        raise ValueError(f"{expected}, without ? and #")
    return text.rstrip("/")


ServiceUrl = Annotated[str, BeforeValidator(service_url)]
