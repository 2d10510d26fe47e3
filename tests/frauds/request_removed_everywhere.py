"""Request and withdrawal are gone from the ledger, its links computed again, and the suppression memory is gone."""

from forgery import PROJECT, rewrite_ledger

rewrite_ledger(lambda entries: [entry for entry in entries if entry["event"] not in ("requested", "withdrawn")])
(PROJECT / ".sisa/suppressed.jsonl").write_bytes(b"")
