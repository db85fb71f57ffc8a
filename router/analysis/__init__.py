"""How a canary does beside production: what is measured, judged and shown."""
