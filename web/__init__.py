"""The web UI: static files and how they are served. What it shows it asks the API for."""
