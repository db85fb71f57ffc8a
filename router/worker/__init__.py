"""The child that holds one version: load, warm up, decode, predict, encode, count scores."""
