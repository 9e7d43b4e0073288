"""Cameras, rasterisation, shading and views: pure functions of tensors, the pose always an argument."""
