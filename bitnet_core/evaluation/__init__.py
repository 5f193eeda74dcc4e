"""What a student is worth: quality on held-out traces, speed and memory as deployed, QEI, the 7B dry run."""
