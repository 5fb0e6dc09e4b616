"""FantasyID (arXiv 2502.13995): identity-preserving text-to-video from one photograph.

Five rooms, walked in one direction: ``faces`` → ``geometry`` → ``views`` → ``identity`` → ``video``.
Pixels and meshes are NumPy arrays until the identity room; from there on everything is torch.
Nothing in this package knows ComfyUI.
"""

__version__ = "0.1.0"
