"""LOBE, the LOcalized BEnchmark for chest X-ray backbones. The verbs live in `benchmark.api`; importing this package is free."""
