"""The manifest says that more was forgotten, and the ledger's last generation has the digest of that."""

from forgery import PROJECT, read_json, rewrite_ledger, sha256, write_json

manifest = read_json("models/ensemble.json")
manifest["forgotten"]["listed"] += 1
write_json("models/ensemble.json", manifest)


def agree(entries):  # type: ignore[no-untyped-def]
    published = [entry for entry in entries if entry["event"] == "published"]
    published[-1]["manifest_sha256"] = sha256((PROJECT / "models/ensemble.json").read_bytes())
    return entries


rewrite_ledger(agree)
