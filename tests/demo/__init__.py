"""The demo: what it is made of, how it judges, and the whole story on the real gateway."""
