"""Training: one plain loop for every head, the features that jobs share, and the record of what came out."""
