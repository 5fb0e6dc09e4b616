"""The five rooms as ComfyUI nodes: sockets, tooltips, progress and memory. The only folder that knows ComfyUI."""
