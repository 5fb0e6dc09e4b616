"""Below the five rooms: what model files exist, where they lie, and how they are loaded safely."""
