"""Room 4, identity: 2D and 3D features fused into identity tokens."""
