"""Pictures of landscapes: the numbers of a figure, and its drawing."""
