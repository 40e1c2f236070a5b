"""Files to start from: what `lobe new` looks at, guesses and writes."""
