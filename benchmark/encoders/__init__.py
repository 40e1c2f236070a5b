"""Encoders: families of backbones found by their name, their weights loaded with an account of every tensor, and sealed before use."""
