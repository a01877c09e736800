"""The memory bank of normal patch tokens: filled, thinned, searched, and compared with."""
