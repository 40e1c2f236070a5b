"""Files of others, fetched: over HTTP or from a hub, held to size and digest, unpacked safely, and never half there under their final name.

`transfer` moves the bytes of one file, `keeping` holds it to its digest, `unpacking` opens archives; `releases` gets a dataset and
`weights` a backbone's file with them. Nothing here imports torch.
"""
