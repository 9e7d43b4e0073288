"""Meshes, edits and exports of a finished reconstruction."""
