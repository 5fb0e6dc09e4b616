"""Room 3, views: the same face from several sides."""
