"""What the gateway asks of other servers, and sends to them, by itself: peers and receivers."""
