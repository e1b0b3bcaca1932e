"""What goes beyond the tutorial: other splits, noise, explanations, answers about recordings."""
