"""Coming back: billing, which may be stopped on purpose, and the incident system."""
