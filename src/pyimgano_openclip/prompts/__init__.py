"""Texts about normal and damaged objects, and scores by comparing patch tokens with them."""
