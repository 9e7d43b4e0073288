"""Other formats into checkpoint folders."""
