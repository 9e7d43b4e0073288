"""The steps of the method, each a function from record to record."""
