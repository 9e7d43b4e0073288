"""Training of what a checkpoint ships: taps, encoders, shape nets."""
