"""Generators, discriminators, shape nets, encoders and feature networks."""
