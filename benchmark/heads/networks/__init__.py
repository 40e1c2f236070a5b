"""Networks and losses that heads are built from, and the operators they need. A head's `build` imports them, planning does not."""
