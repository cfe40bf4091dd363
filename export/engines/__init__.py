"""Engine builds: a graph in, a plan file out, each in a subprocess that may die without taking the export along."""
