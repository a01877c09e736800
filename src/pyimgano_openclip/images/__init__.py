"""Images as callers pass them, decoded, checked and resized; no tower, no scores."""
