"""What readers of releases share: finding and opening files, tables, shapes of labels, splits, checks and the identity of a dataset.

Modules beside this folder are one release each (`DatasetReader`), but for `base`, which says what a reader owes.
"""
