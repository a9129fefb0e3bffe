"""What should an agent do next? Plain functions of what is seen and what is wanted; no clock, no I/O."""
