"""What a student is worth: quality and imitation, speed and memory as deployed, the teacher's baseline, QEI."""
