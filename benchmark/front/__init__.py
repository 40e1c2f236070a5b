"""LOBE from Python: `Lobe` evaluates, its `Results` are tables, and features and trained probes are arrays. Guide: docs/python.md."""
