"""Execution: jobs grouped into units and placed on the devices of a machine or cluster. No number depends on it."""
