"""How the bundled model is made: data, captions, network, losses, trainer, evaluation, card."""
