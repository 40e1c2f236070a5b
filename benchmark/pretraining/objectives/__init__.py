"""Objectives, a module for each method: what it adds to the two towers, and its losses."""
