"""Inference over results: resampling, intervals, tests and order among backbones. What is measured lives in `metrics`."""
