"""Readers: one module for each public release, or form of data, that gives samples with ground truth in original pixels."""
