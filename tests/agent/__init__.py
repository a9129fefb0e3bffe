"""Does the agent keep real processes and containers as it should?"""
