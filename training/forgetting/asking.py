"""How a service is asked to withdraw models: ``POST /v1/withdraw`` (deploy/README.md), until it confirms or refuses."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError
from tenacity import Retrying, retry_if_exception_type, stop_before_delay, wait_exponential_jitter

from serving.ensemble.turnout import Turnout

MAX_DIGESTS = 1000  # in a request: what the service takes
TIMEOUT = 10.0  # seconds for one request
RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})

NO_TOKEN = (
    "SISA_ADMIN_TOKEN is not set here: put the token that the services were started with into the environment, and "
    "run it again"
)
ADVICE = {
    401: "its SISA_ADMIN_TOKEN is another one than the one set here; set that of the service, and run it again",
    403: "it withdraws nothing while it has no SISA_ADMIN_TOKEN: start it with one, and run it again",
    404: "there is no POST /v1/withdraw below this address: correct it, or bring the service up to date",
    405: "there is no POST /v1/withdraw below this address: correct it, or bring the service up to date",
    413: "what stands in front of it takes no request of this size: let it pass 128 KiB",
}


class Outcome(BaseModel):
    """What a service said. ``problem``: why nothing is confirmed, and what to do; None when all of it is.

    ``generation``, ``turnout``, ``needed``: what it answers from now, where it could tell.
    """

    model_config = ConfigDict(frozen=True)

    service: str
    problem: str | None = None
    generation: int | None = None
    turnout: Turnout | None = None
    needed: int | None = None


class _Confirmation(BaseModel):
    """The service's answer, as far as it is looked at."""

    withdrawn: frozenset[str]
    generation: int | None = None
    turnout: Turnout | None = None
    needed: int | None = None


class _RefusedError(Exception):
    """Asking again would bring the same answer."""


class _UnavailableError(Exception):
    """Asking again may help."""


def withdraw_at(services: Sequence[str], token: str | None, digests: Sequence[str], patience: float) -> list[Outcome]:
    """Withdraw models at all services side by side; what each said, in their order.

    ``token``: what they ask for; None is the outcome that there is none. ``digests``: hex SHA-256 of the models.
    ``patience``: seconds within which a service that cannot be reached, or cannot do it now, is asked again.
    """
    if not token:
        return [Outcome(service=service, problem=NO_TOKEN) for service in services]
    if not token.isascii() or not token.isprintable():  # its text must not get into a message
        problem = "SISA_ADMIN_TOKEN holds characters that no header can carry; correct it, and run it again"
        return [Outcome(service=service, problem=problem) for service in services]
    with ThreadPoolExecutor(max(1, len(services)), "service") as pool:
        return list(pool.map(partial(withdraw_at_one, token=token, digests=digests, patience=patience), services))


def withdraw_at_one(service: str, token: str, digests: Sequence[str], patience: float) -> Outcome:
    retrying = Retrying(
        retry=retry_if_exception_type(_UnavailableError),
        wait=wait_exponential_jitter(multiplier=0.1, max=5, jitter=0.1),
        stop=stop_before_delay(patience),
        reraise=True,
    )
    headers = {"Authorization": f"Bearer {token}"}
    try:
        with httpx.Client(headers=headers, timeout=TIMEOUT) as client:
            last = retrying(post_all, client, f"{service}/v1/withdraw", digests)
    except _RefusedError as error:
        return Outcome(service=service, problem=str(error))
    except _UnavailableError as error:
        problem = f"{error}; tried for {patience:g} seconds. Run it again when it can be reached"
        return Outcome(service=service, problem=problem)
    return Outcome(service=service, generation=last.generation, turnout=last.turnout, needed=last.needed)


def post_all(client: httpx.Client, url: str, digests: Sequence[str]) -> _Confirmation:
    """The service's last answer, every digest confirmed."""
    answers = [post(client, url, digests[start : start + MAX_DIGESTS]) for start in range(0, len(digests), MAX_DIGESTS)]
    return answers[-1]


def post(client: httpx.Client, url: str, digests: Sequence[str]) -> _Confirmation:
    """Raises _RefusedError or _UnavailableError unless every digest is confirmed."""
    try:
        answer = client.post(url, json={"sha256": digests})
    except httpx.RequestError as error:
        raise _UnavailableError(f"it cannot be reached ({error or type(error).__name__})") from error
    said = f"{answer.status_code} {answer.reason_phrase}{details(answer)}"
    if answer.status_code in RETRIED:
        raise _UnavailableError(f"it cannot withdraw now ({said})")
    if answer.is_redirect:
        raise _RefusedError(f"it redirects to {answer.headers.get('location')}; give the address that it leads to")
    if answer.status_code != httpx.codes.OK:
        advice = ADVICE.get(answer.status_code, "it may be of another version: bring it up to date, and run it again")
        raise _RefusedError(f"it refuses ({said}): {advice}")
    try:
        confirmation = _Confirmation.model_validate_json(answer.content)
    except ValidationError:
        raise _RefusedError("what answers there is not a SISA service; correct the address") from None
    if left := set(digests) - confirmation.withdrawn:
        raise _RefusedError(f"it confirms {len(digests) - len(left)} of {len(digests)} models; see its log")
    return confirmation


def details(answer: httpx.Response) -> str:
    """What a SISA service says beside the status."""
    try:
        problem = answer.json()
        return f", {problem['error']}: expected {problem['expected']}, found {problem['found']}"
    except (ValueError, KeyError, TypeError):
        return ""
