"""The one error of this package."""

from __future__ import annotations


class BadPicture(ValueError):
    """A picture that is not decoded, and why.

    ``reason``: what is wrong, ``expected`` and ``found`` the details, each as part of a sentence.
    ``too_large``: the picture may be sound, but it is above a limit.
    """

    def __init__(self, reason: str, expected: str, found: str, *, too_large: bool = False) -> None:
        super().__init__(f"{reason}: expected {expected}, found {found}")
        self.reason, self.expected, self.found, self.too_large = reason, expected, found, too_large
