"""Model interface, losses and ascent loops that attacks share."""
