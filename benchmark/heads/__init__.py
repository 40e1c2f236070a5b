"""Heads: one module each, found by its name, with the head's facts (`FACTS`, for planning and tables) and `build(request) -> Head`.

Networks and losses live in `heads.networks` and are imported when a head is built. So a head's facts stand beside its `build`, and
planning, which reads the facts of all heads, imports no framework. A head whose network stands in its own module works as well; every plan
then imports torch, which tests/test_light_imports.py forbids for shipped heads. Heads that train nothing have facts alone: `zero_shot`,
`retrieval`, `grounding`. `base` is the interface to the training loop.
"""
