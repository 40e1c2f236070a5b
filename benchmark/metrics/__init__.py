"""Metrics: pure functions of arrays. One module a family; families never share a name."""
