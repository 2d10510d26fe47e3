"""The request was made a year ago: its time is another one, and every link of the ledger is computed again."""

from forgery import rewrite_ledger


def earlier(entries):  # type: ignore[no-untyped-def]
    for entry in entries:
        if entry["event"] == "requested":
            entry["time"] = "2025" + entry["time"][4:]
    return entries


rewrite_ledger(earlier)
