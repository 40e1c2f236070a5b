"""`lobe bench`: what LOBE's speed is, measured against the plain way in the same run, with the numbers of both compared."""
