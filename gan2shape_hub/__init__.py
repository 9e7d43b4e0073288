"""Single-image 3D out of ordinary 2D GANs."""
