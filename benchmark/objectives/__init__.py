"""Pretraining objectives, a module for each method: what it adds to the two encoders, its losses, and its joint space."""
