"""The web UI in a real browser, against real drovers on a real Consul."""
