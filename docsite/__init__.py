"""The documentation site, `make docs`: pages of `docs/`, and a reference made from the code. Nothing of it is in the wheel."""
