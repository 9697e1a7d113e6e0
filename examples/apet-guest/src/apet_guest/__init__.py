"""An example of a package that adds a method, a distribution and a family to apet."""
