"""Results that go from one person to another: packed, checked, accepted, and scored again. How far each may be trusted: `trust`."""
