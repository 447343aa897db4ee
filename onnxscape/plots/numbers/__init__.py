"""The numbers of a figure: scales, levels, ticks, cells and words, without any drawing."""
