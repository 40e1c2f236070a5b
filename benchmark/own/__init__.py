"""Code of a user's own: found in included folders and installed packages, digested, and run in private packages.

`modules` and `loaders` keep what one file imports apart from every other; `source` says which files a module is made of; `rooms` finds
modules by room and name; `contract` says what a module owes. Nothing here imports torch; the user's code may.
"""
