"""The configuration file: read, judged as a whole, and the one edit that is made in it."""
