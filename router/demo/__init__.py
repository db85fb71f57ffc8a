"""The demo: really trained versions, a gateway, traffic, and a check of every single answer."""
