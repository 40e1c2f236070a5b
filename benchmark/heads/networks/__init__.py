"""What heads are built from: networks, losses, and operators that they need. Only `build` of a head's module comes here."""
