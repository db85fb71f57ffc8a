"""One version's workers and the requests that wait for them."""
