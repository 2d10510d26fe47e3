"""Services elsewhere: what is withdrawn here is withdrawn there, and counts when each of them has confirmed it.

A service that answers from a copy of the models knows nothing of the ledger. It is told by ``POST /v1/withdraw``
(deploy/README.md), always of everything that was ever withdrawn: asking twice does no harm, and a service that was
away, or has lost its state, learns all it missed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from training.errors import RequestError
from training.publish.events import Confirmed
from training.publish.history import confirmed_models, read_history, withdrawn_models
from training.publish.opening import open_ledger
from training.service_url import service_url
from training.workspace import Workspace

if TYPE_CHECKING:
    from training.forgetting.asking import Outcome

logger = logging.getLogger(__name__)

PATIENCE = 30.0  # seconds


def withdraw_everywhere(workspace: Workspace, urls: Iterable[str] = (), patience: float = PATIENCE) -> list[Outcome]:
    """Tell every service of every model that the ledger says was withdrawn, and enter into it who has confirmed.

    ``urls``: services beside those of ``publish.services``. A service that does not confirm is an outcome, and a
    warning in the log, not an error. An experiment tells nobody, and there is nothing to tell while nothing was
    withdrawn. Raises RequestError and ParamsError when an address cannot be used, LedgerError when the ledger cannot.
    """
    services = services_of(workspace, urls)
    digests = sorted(withdrawn_models(read_history(workspace)))
    if workspace.is_experiment or not services or not digests:
        return []
    from training.forgetting.asking import withdraw_at  # an HTTP client takes a tenth of a second to import

    outcomes = withdraw_at(services, os.environ.get("SISA_ADMIN_TOKEN"), digests, patience)
    for outcome in outcomes:
        if outcome.problem is not None:
            logger.warning(
                "NOT WITHDRAWN at %s, which may go on answering with models that saw what is to be forgotten: %s",
                outcome.service,
                outcome.problem,
            )
    enter_confirmed(workspace, [outcome.service for outcome in outcomes if outcome.problem is None], len(digests))
    return outcomes


def services_of(workspace: Workspace, urls: Iterable[str] = ()) -> list[str]:
    """The services of ``publish.services`` and those given, each once. Raises RequestError and ParamsError."""
    return list(dict.fromkeys([*workspace.read_params().publish.services, *addresses(urls)]))


def addresses(urls: Iterable[str]) -> list[str]:
    """Addresses as they are used and entered. Raises RequestError for one that cannot be."""
    usable = []
    for url in urls:
        try:
            usable.append(service_url(url))
        except ValueError as error:
            raise RequestError(f"{url!r}: {error}") from None
    return usable


def enter_confirmed(workspace: Workspace, services: Sequence[str], models: int) -> None:
    """Enter into the ledger which services have confirmed how many models, where it does not say so yet."""
    with workspace.publish_lock():
        ledger = open_ledger(workspace)
        known = confirmed_models(ledger.read())
        for service in services:
            if known.get(service) != models:
                said = {**ledger.stamp(), "service": service, "models": models}
                ledger.append(Confirmed.model_validate(said))
