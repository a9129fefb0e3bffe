"""What must be there before a task runs, and gone after it? One file each; see base.py."""
