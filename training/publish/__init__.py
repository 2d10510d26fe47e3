"""From trained shards to what is served: export, release candidate, ledger, publication."""
