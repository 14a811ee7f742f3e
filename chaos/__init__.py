"""hospital-chaos: crash servers of a running hospital and judge whether its claims hold."""
