"""Room 5, video: the layer-adaptive DiT, its samplers, and decoding."""
