"""Files that a task wants from elsewhere: fetched into a place of the agent's own, checked, unpacked, then put where the task sees them.

    fetch.py ──file or tree──> checksum.py ──> unpack.py ──> placing.py
"""
