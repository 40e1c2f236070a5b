"""Phantoms: generated radiographs with known findings, in the formats of the public releases, for tests and the demo."""
