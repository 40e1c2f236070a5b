"""Studies: several pretraining methods on equal terms, from recipes to one report."""
