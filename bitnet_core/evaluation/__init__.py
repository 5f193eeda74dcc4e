"""What a student is worth: quality on held-out traces, speed and memory as deployed, the teacher's baseline, QEI."""
