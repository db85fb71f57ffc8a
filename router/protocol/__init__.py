"""Messages between the gateway and its children."""
