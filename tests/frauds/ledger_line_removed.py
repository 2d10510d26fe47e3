"""The request was never made: its line is gone from both copies of the ledger."""

from forgery import LEDGERS, PROJECT

for name in LEDGERS:
    lines = (PROJECT / name).read_bytes().splitlines(keepends=True)
    (PROJECT / name).write_bytes(b"".join(line for line in lines if b'"requested"' not in line))
