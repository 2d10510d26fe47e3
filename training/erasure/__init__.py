"""After a deletion: verify it, purge what is left of it, certify it."""
