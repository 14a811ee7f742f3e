"""What happens to a Compose project that somebody else wrote and started."""
