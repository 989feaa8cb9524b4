"""Ethics: whether people are treated alike and without pressure."""
