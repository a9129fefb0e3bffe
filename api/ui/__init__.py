"""What the web UI asks beside Nomad's API: lists that are filtered, sorted and cut on the leader, and what is of many things
at once. drover's own; everything else the UI reads and does goes through Nomad's paths."""
