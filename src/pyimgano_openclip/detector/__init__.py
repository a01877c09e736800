"""What all detectors share: settings, fitting, scoring, saving and showing."""
