"""Random calls of the whole public surface, judged by the float64 reference: for fuzz.py and test_fuzz.py."""
