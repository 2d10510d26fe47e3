"""The life of a deletion request."""
