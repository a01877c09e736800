"""From frames to patch tokens and from sentences to text vectors; all of torch lives here."""
