"""Compares the images of an unlabelled pool with each other."""
