"""What the tests of the documents read and run them with."""
