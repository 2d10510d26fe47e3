"""The command ``sisa``: a module a group, each a thin layer over functions of a workspace.

A command imports what it needs when it runs: `sisa --help` is not to wait for any of it.
"""
