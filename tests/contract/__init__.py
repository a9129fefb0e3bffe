"""Does the embedded Consul behave as a real one does? Every test here runs against both."""
