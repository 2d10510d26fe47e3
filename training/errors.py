"""What can go wrong that a person can fix.

Libraries raise these and print nothing. The stages and the command turn them into a message and an
exit status (``training/stages/run.py``).
"""

from __future__ import annotations


class SisaError(Exception):
    """The message says what was found, what was expected and what to do."""


class ParamsError(SisaError):
    """params.yaml cannot be used; the message names every key, what was found and what is allowed."""


class CheckError(SisaError):
    """`sisa check` found something wrong; the message has a line or more for each."""


class SourceError(SisaError):
    """The source of samples is missing or unreadable, or a picture in it is."""


class ForgetListError(SisaError):
    """A forget list cannot be read, or names something that cannot be forgotten."""


class ReturnedError(SisaError):
    """The source holds samples that were forgotten, under whatever name; the message names each."""


class ChangedError(SisaError):
    """What was read has changed meanwhile: it may have been asked for something that was not seen. Run it again."""


class DamagedError(SisaError):
    """A file that an earlier stage wrote is missing, damaged or not what it should be."""


class StalePlanError(SisaError):
    """A plan was made for other parameters, code, initial weights or samples than there are now."""


class TrainingError(SisaError):
    """Training cannot start or finish: no such device, diverging loss, too little memory, unusable weights."""


class PublishError(SisaError):
    """The release candidate must not be published."""


class LedgerError(SisaError):
    """The ledger is damaged, or its two copies do not continue each other."""


class MemoryLostError(SisaError):
    """What the workspace remembers of forgotten samples is missing or damaged, so nothing may be decided without it."""


class RequestError(SisaError):
    """A request to forget cannot be made, changed or carried out as asked."""


class BusyError(SisaError):
    """Another process is doing the same, and nobody need wait for it."""


class DvcError(SisaError):
    """DVC failed; what it printed says why."""


class GitError(SisaError):
    """git failed; the message has what it said."""


class DrillError(SisaError):
    """A drill cannot be carried out as asked."""


class BackboneError(SisaError):
    """A frozen backbone cannot be made, or a file is not one."""


class VerifyError(SisaError):
    """What is published is not what it is said to be; the message says in what."""


class UncheckedError(SisaError):
    """Something cannot be verified here; the message says why, and what it would take."""


class ProofError(SisaError):
    """A proof cannot be given, or proves nothing."""


class PurgeError(SisaError):
    """What is left of earlier generations cannot be removed as things stand."""


class KeysError(SisaError):
    """The signing key is missing, damaged or not kept secret; or there is one already."""


class CertificateError(SisaError):
    """A certificate cannot be made as things stand, or one does not say what is true."""


class EraseError(SisaError):
    """An erasure stopped before its end; the message says at which step, and what to do before the same command."""
