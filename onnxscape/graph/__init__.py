"""From a model file to a graph whose weights can be moved and whose output is a loss."""
