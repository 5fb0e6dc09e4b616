"""Room 2, geometry: the 3D shape of a face."""
