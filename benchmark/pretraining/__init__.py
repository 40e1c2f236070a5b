"""Pretraining: image encoders made from radiographs and their reports, by the objectives of the papers whose released files LOBE reads."""
