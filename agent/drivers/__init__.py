"""How is a task run on this machine? One file for each driver; base.py says what all of them promise."""
