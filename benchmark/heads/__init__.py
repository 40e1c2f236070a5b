"""Heads: one module each, found by its name. A module says what planning and tables need (`FACTS`), and offers `build(request) -> Head`.

Networks and losses live in `heads.networks` and are imported when a head is built. So facts stand beside the head, and planning, which
reads them, imports no framework. `base` says what a head owes to the training loop. Heads that train nothing have facts alone: `zero_shot`,
`retrieval`, `grounding`.
"""
